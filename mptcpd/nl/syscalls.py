"""System calls by name and number, for each binary interface (ABI) that a Linux machine may have.

Knows numbers; must not know filters. A 64-bit kernel runs 32-bit programs too, whose calls have
other numbers: a filter has to know all ABIs that its kernel may meet, ``siblings`` lists them.
Source   asm/unistd.h, linux/audit.h and linux/elf-em.h of each architecture; the tests compare the
         table with all headers that are installed (Debian: linux-libc-dev-ARCH-cross).
"""

from __future__ import annotations

from typing import NamedTuple

from mptcpd.nl import uapi as u

# linux/audit.h: what is added to the ELF machine to name an ABI.
_64 = 0x80000000
_LE = 0x40000000
_N32 = 0x20000000


class Abi(NamedTuple):
    """A way in which programs call the kernel.

    name        as in AUDIT_ARCH_NAME, save x32, which shares that of x86-64
    kernel      what kernels have it: all ABIs with the same word and byte order live together
    machine     e_machine of its programs, EM_*
    bits        32 or 64: the class of its programs' ELF files
    little      byte order
    audit       AUDIT_ARCH_*: ``seccomp_data.arch``
    column      of the table below
    base        what the kernel adds to the table's numbers
    """

    name: str
    kernel: str
    machine: int
    bits: int
    little: bool
    audit: int
    column: str
    base: int = 0


ABIS = (
    Abi("X86_64", "x86", u.EM_X86_64, 64, True, u.EM_X86_64 | _64 | _LE, "x86_64"),
    Abi("X32", "x86", u.EM_X86_64, 32, True, u.EM_X86_64 | _64 | _LE, "x32", 0x40000000),
    Abi("I386", "x86", u.EM_386, 32, True, u.EM_386 | _LE, "i386"),
    Abi("AARCH64", "arm", u.EM_AARCH64, 64, True, u.EM_AARCH64 | _64 | _LE, "generic"),
    Abi("ARM", "arm", u.EM_ARM, 32, True, u.EM_ARM | _LE, "arm"),
    Abi("RISCV64", "riscv", u.EM_RISCV, 64, True, u.EM_RISCV | _64 | _LE, "generic"),
    Abi("RISCV32", "riscv", u.EM_RISCV, 32, True, u.EM_RISCV | _LE, "generic"),
    Abi("LOONGARCH64", "loong", u.EM_LOONGARCH, 64, True, u.EM_LOONGARCH | _64 | _LE, "generic"),
    Abi("PPC64LE", "powerpc", u.EM_PPC64, 64, True, u.EM_PPC64 | _64 | _LE, "powerpc"),
    Abi("PPC64", "powerpc", u.EM_PPC64, 64, False, u.EM_PPC64 | _64, "powerpc"),
    Abi("PPC", "powerpc", u.EM_PPC, 32, False, u.EM_PPC, "powerpc"),
    Abi("S390X", "s390", u.EM_S390, 64, False, u.EM_S390 | _64, "s390"),
    Abi("S390", "s390", u.EM_S390, 32, False, u.EM_S390, "s390"),
    Abi("MIPS", "mips", u.EM_MIPS, 32, False, u.EM_MIPS, "o32", 4000),
    Abi("MIPS64", "mips", u.EM_MIPS, 64, False, u.EM_MIPS | _64, "n64", 5000),
    Abi("MIPS64N32", "mips", u.EM_MIPS, 32, False, u.EM_MIPS | _64 | _N32, "n32", 6000),
    Abi("MIPSEL", "mips", u.EM_MIPS, 32, True, u.EM_MIPS | _LE, "o32", 4000),
    Abi("MIPSEL64", "mips", u.EM_MIPS, 64, True, u.EM_MIPS | _64 | _LE, "n64", 5000),
    Abi("MIPSEL64N32", "mips", u.EM_MIPS, 32, True, u.EM_MIPS | _64 | _LE | _N32, "n32", 6000),
)

_TABLE = """
call                x86_64     x32    i386     arm generic powerpc    s390     o32     n64     n32
socket                  41      41     359     281     198     326     359     183      40      40
socketpair              53      53     360     288     199     333     360     184      52      52
socketcall               -       -     102       -       -     102     102     102       -       -
seccomp                317     317     354     383     277     358     348     352     312     316
execve                  59     520      11      11     221      11      11      11      57      57
execveat               322     545     358     387     281     362     354     356     316     320
ptrace                 101     521      26      26     117      26      26      26      99      99
process_vm_readv       310     539     347     376     270     351     340     345     304     309
process_vm_writev      311     540     348     377     271     352     341     346     305     310
kcmp                   312     312     349     378     272     354     343     347     306     311
mount                  165     165      21      21      40      21      21      21     160     160
umount                   -       -      22       -       -      22      22      22       -       -
umount2                166     166      52      52      39      52      52      52     161     161
pivot_root             155     155     217     218      41     203     217     216     151     151
chroot                 161     161      61      61      51      61      61      61     156     156
swapon                 167     167      87      87     224      87      87      87     162     162
swapoff                168     168     115     115     225     115     115     115     163     163
reboot                 169     169      88      88     142      88      88      88     164     164
init_module            175     175     128     128     105     128     128     128     168     168
finit_module           313     313     350     379     273     353     344     348     307     312
delete_module          176     176     129     129     106     129     129     129     169     169
create_module          174       -     127       -       -     127     127     127     167     167
query_module           178       -     167       -       -     166     167     187     171     171
kexec_load             246     528     283     347     104     268     277     311     270     274
kexec_file_load        320     320       -     401     294     382     381       -       -       -
bpf                    321     321     357     386     280     361     351     355     315     319
perf_event_open        298     298     336     364     241     319     331     333     292     296
userfaultfd            323     323     374     388     282     364     355     357     317     321
keyctl                 250     250     288     311     219     271     280     282     241     245
add_key                248     248     286     309     217     269     278     280     239     243
request_key            249     249     287     310     218     270     279     281     240     244
acct                   163     163      51      51      89      51      51      51     158     158
quotactl               179     179     131     131      60     131     131     131     172     172
nfsservctl             180       -     169     169      42     168     169     189     173     173
setns                  308     308     346     375     268     350     339     344     303     308
unshare                272     272     310     337      97     282     303     303     262     266
iopl                   172     172     110       -       -     110       -     110       -       -
ioperm                 173     173     101       -       -     101     101     101       -       -
modify_ldt             154     154     123       -       -     123       -     123       -       -
vm86                     -       -     166       -       -     113       -     113       -       -
vm86old                  -       -     113       -       -       -       -       -       -       -
lookup_dcookie         212     212     253     249      18     235     110     247     206     206
syslog                 103     103     103     103     116     103     103     103     101     101
settimeofday           164     164      79      79     170      79      79      79     159     159
stime                    -       -      25       -       -      25      25      25       -       -
clock_settime          227     227     264     262     112     245     259     262     221     225
clock_settime64          -       -     404     404       -     404     404     404       -     404
adjtimex               159     159     124     124     171     124     124     124     154     154
clock_adjtime          305     305     343     372     266     347     337     341     300     305
clock_adjtime64          -       -     405     405       -     405     405     405       -     405
sethostname            170     170      74      74     161      74      74      74     165     165
setdomainname          171     171     121     121     162     121     121     121     166     166
vhangup                153     153     111     111      58     111     111     111     150     150
personality            135     135     136     136      92     136     136     136     132     132
open_by_handle_at      304     304     342     371     265     346     336     340     299     304
name_to_handle_at      303     303     341     370     264     345     335     339     298     303
fanotify_init          300     300     338     367     262     323     332     336     295     300
mknod                  133     133      14      14       -      14      14      14     131     131
mknodat                259     259     297     324      33     288     290     290     249     253
uselib                 134       -      86      86       -      86      86      86       -       -
ustat                  136     136      62      62       -      62      62      62     133     133
sysfs                  139     139     135     135       -     135     135     135     136     136
_sysctl                156       -     149     149       -     149     149     153     152     152
fork                    57      57       2       2       -       2       2       2      56      56
vfork                   58      58     190     190       -     189     190       -       -       -
clone                   56      56     120     120     220     120     120     120      55      55
kill                    62      62      37      37     129      37      37      37      60      60
tkill                  200     200     238     238     130     208     237     236     192     192
tgkill                 234     234     270     268     131     250     241     266     225     229
rt_sigqueueinfo        129     524     178     178     138     177     178     198     127     127
rt_tgsigqueueinfo      297     536     335     363     240     322     330     332     291     295
"""
# Since Linux 5.1 a new call has the same number everywhere.
_EVERYWHERE = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "clone3": 435,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}


def numbers(abi: Abi) -> dict[str, int]:
    """The numbers of all calls above that the ABI has, by name."""
    head, *rows = (line.split() for line in _TABLE.strip().splitlines())
    column = head.index(abi.column)
    found = {row[0]: int(row[column]) + abi.base for row in rows if row[column] != "-"}
    return found | {name: number + abi.base for name, number in _EVERYWHERE.items()}


def names() -> set[str]:
    """The calls that the table knows."""
    return {line.split()[0] for line in _TABLE.strip().splitlines()[1:]} | set(_EVERYWHERE)


def siblings(abi: Abi) -> tuple[Abi, ...]:
    """All ABIs that the kernel may have which runs a program of this one, itself included.

    As a 32-bit program need not know that its kernel has 64, both are always listed.
    """
    return tuple(a for a in ABIS if (a.kernel, a.little) == (abi.kernel, abi.little))


def of_program(header: bytes) -> Abi | None:
    """The ABI of a program, by the first 64 bytes of its ELF file (for us: /proc/self/exe).

    ``uname`` would not do: under a 64-bit kernel it names the kernel's machine, not the program's.
    None for a file that is no ELF file or a machine that the table lacks.
    Source  linux/elf.h: Elf32_Ehdr, Elf64_Ehdr; arch/mips: EF_MIPS_ABI2.
    """
    if len(header) < 52 or header[:4] != b"\x7fELF" or header[4] not in (1, 2):
        return None
    bits, little = header[4] * 32, header[5] == 1
    order = "little" if little else "big"
    machine = int.from_bytes(header[18:20], order)  # type: ignore[arg-type]
    found = [a for a in ABIS if (a.machine, a.bits, a.little) == (machine, bits, little)]
    if len(found) > 1:  # mips with 32 bits: the older ABI, or the 64-bit one with short pointers
        flags = int.from_bytes(header[36:40], order)  # type: ignore[arg-type]
        found = [a for a in found if (a.column == "n32") == bool(flags & 0x20)]
    return found[0] if found else None
