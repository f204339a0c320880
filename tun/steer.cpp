#include "tun/steer.h"

#include <linux/filter.h>
#include <sys/socket.h>

#include "dataplane/wireguard/message.h"

namespace sallyport {

Result<void> attach_steering(int fd, unsigned workers) {
  constexpr uint32_t kTypeOffset = 0;
  constexpr uint32_t kIndexOffset = 4;
  constexpr uint32_t kData = static_cast<uint32_t>(wireguard::MessageKind::data);
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kTypeOffset),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kData, 0, 3),
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kIndexOffset),
      BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, workers),
      BPF_STMT(BPF_RET | BPF_A, 0),
      BPF_STMT(BPF_RET | BPF_K, workers),
  };
  sock_fprog program{sizeof(code) / sizeof(code[0]), code};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program)) != 0) {
    return fail_errno("cannot attach the steering program to the UDP sockets");
  }
  return {};
}

}  // namespace sallyport
