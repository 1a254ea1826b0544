"""Declares what cffi must know: the kernel's structs and the libc calls that Python lacks.

Out-of-line ABI form: run as a script (or by setuptools) this writes ``_attrs_abi.py``, pure Python
that loads without a compiler, without pycparser and on any architecture. An inline ``cdef`` would
cost 34 ms at every start. The structs are laid out as the headers have them; where the header
packs or pads, so does this.
"""

from __future__ import annotations

import os
import sys

from cffi import FFI

ffi = FFI()
ffi.set_source("mptcpd.nl._attrs_abi", None)

ffi.cdef(
    """
/* linux/netlink.h */
struct nlmsghdr { uint32_t nlmsg_len; uint16_t nlmsg_type; uint16_t nlmsg_flags;
                  uint32_t nlmsg_seq; uint32_t nlmsg_pid; };
struct nlattr { uint16_t nla_len; uint16_t nla_type; };
struct nlmsgerr { int32_t error; struct nlmsghdr msg; };
struct sockaddr_nl { uint16_t nl_family; uint16_t nl_pad; uint32_t nl_pid; uint32_t nl_groups; };

/* linux/genetlink.h */
struct genlmsghdr { uint8_t cmd; uint8_t version; uint16_t reserved; };

/* linux/rtnetlink.h, linux/if_addr.h */
struct ifinfomsg { uint8_t ifi_family; uint8_t ifi_pad; uint16_t ifi_type; int32_t ifi_index;
                   uint32_t ifi_flags; uint32_t ifi_change; };
struct ifaddrmsg { uint8_t ifa_family; uint8_t ifa_prefixlen; uint8_t ifa_flags;
                   uint8_t ifa_scope; uint32_t ifa_index; };
struct ifa_cacheinfo { uint32_t ifa_prefered; uint32_t ifa_valid; uint32_t cstamp;
                       uint32_t tstamp; };
struct rtmsg { uint8_t rtm_family; uint8_t rtm_dst_len; uint8_t rtm_src_len; uint8_t rtm_tos;
               uint8_t rtm_table; uint8_t rtm_protocol; uint8_t rtm_scope; uint8_t rtm_type;
               uint32_t rtm_flags; };
struct rtnexthop { uint16_t rtnh_len; uint8_t rtnh_flags; uint8_t rtnh_hops;
                   int32_t rtnh_ifindex; };
struct tcmsg { uint8_t tcm_family; uint8_t tcm__pad1; uint16_t tcm__pad2; int32_t tcm_ifindex;
               uint32_t tcm_handle; uint32_t tcm_parent; uint32_t tcm_info; };

/* linux/fib_rules.h */
struct fib_rule_hdr { uint8_t family; uint8_t dst_len; uint8_t src_len; uint8_t tos;
                      uint8_t table; uint8_t res1; uint8_t res2; uint8_t action;
                      uint32_t flags; };

/* linux/pkt_sched.h */
struct tc_ratespec { uint8_t cell_log; uint8_t linklayer; uint16_t overhead; int16_t cell_align;
                     uint16_t mpu; uint32_t rate; };
struct tc_tbf_qopt { struct tc_ratespec rate; struct tc_ratespec peakrate; uint32_t limit;
                     uint32_t buffer; uint32_t mtu; };

/* sys/socket.h: recvmmsg fills many messages with one system call */
struct iovec { void *iov_base; size_t iov_len; };
struct msghdr { void *msg_name; uint32_t msg_namelen; struct iovec *msg_iov; size_t msg_iovlen;
                void *msg_control; size_t msg_controllen; int msg_flags; };
struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
int recvmmsg(int fd, struct mmsghdr *vec, unsigned int vlen, int flags, void *timeout);

/* sys/prctl.h, unistd.h, sys/fsuid.h. Variadic as in the headers: where that makes a difference to
   how arguments are passed (ppc64le), a call declared otherwise would overwrite the stack. */
int prctl(int option, ...);
long syscall(long number, ...);
int setfsuid(uint32_t uid);
int setfsgid(uint32_t gid);

/* linux/filter.h */
struct sock_filter { uint16_t code; uint8_t jt; uint8_t jf; uint32_t k; };
struct sock_fprog { unsigned short len; struct sock_filter *filter; };

/* malloc.h: glibc's own, not in musl */
int malloc_trim(size_t pad);

/* linux/capability.h: in every libc, though no header declares it */
struct cap_header { uint32_t version; int pid; };
struct cap_data { uint32_t effective; uint32_t permitted; uint32_t inheritable; };
int capget(struct cap_header *header, struct cap_data *data);
int capset(struct cap_header *header, const struct cap_data *data);

/* sched.h: in the standard library only since Python 3.12 */
int setns(int fd, int nstype);
int unshare(int flags);
"""
)

if __name__ == "__main__":
    ffi.emit_python_code(os.path.join(os.path.dirname(sys.argv[0]), "_attrs_abi.py"))
