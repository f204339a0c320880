#include "tun/tun_device.h"

#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "dataplane/base/descriptor.h"
#include "tun/vnet.h"

#ifndef TUN_F_USO4  // linux/if_tun.h before 6.2
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

namespace sallyport {
namespace {

constexpr const char* kPath = "/dev/net/tun";
constexpr uint32_t kKernelDefaultMtu = 1500;
constexpr short kWanted = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;

ifreq request_for(const std::string& name) {
  ifreq request{};
  std::memcpy(request.ifr_name, name.data(), std::min(name.size(), size_t{IFNAMSIZ - 1}));
  return request;
}

Result<int> open_node() {
  const int fd = open(kPath, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd >= 0) {
    return fd;
  }
  const int code = errno;
  if (code == ENOENT || code == ENODEV || code == ENXIO) {
    return fail(
        "there is no TUN driver here (/dev/net/tun): run \"modprobe tun\", or in a container "
        "create it with "
        "\"mkdir -p /dev/net && mknod /dev/net/tun c 10 200\"",
        code);
  }
  if (code == EPERM || code == EACCES) {
    return fail(
        "no permission to open /dev/net/tun: run as root, or allow the device (c 10 200) in the "
        "container",
        code);
  }
  return fail_errno("cannot open /dev/net/tun", code);
}

// Attaches to `name` with these flags; 0 or an errno.
int attach(int fd, const std::string& name, short flags) {
  ifreq request = request_for(name);
  request.ifr_flags = flags;
  return ioctl(fd, TUNSETIFF, &request) == 0 ? 0 : errno;
}

Result<ifreq> device_of(int fd) {
  ifreq request{};
  if (ioctl(fd, TUNGETIFF, &request) != 0) {
    return fail_errno("descriptor " + std::to_string(fd) + " is not an attached TUN device");
  }
  return request;
}

Error attach_error(const std::string& name, int code) {
  switch (code) {
    case EPERM:
    case EACCES:
      return {
          "cannot create the TUN device " + name +
              ": this needs CAP_NET_ADMIN (run as root, or setcap cap_net_admin+ep on the program)",
          code};
    case EBUSY:
    case EEXIST:
      return {"the interface name " + name +
                  " is taken: choose another, or remove it with \"ip link delete dev " + name +
                  "\"",
              code};
    default:
      return fail_errno("cannot create the TUN device " + name, code).error();
  }
}

// Up with a carrier means that some process is attached: a persistent TUN loses its carrier with
// its last queue. Asked by ethtool, which is exact at once; IFF_RUNNING follows later.
bool in_use(int control, const std::string& name) {
  ethtool_value link{};
  link.cmd = ETHTOOL_GLINK;
  ifreq request = request_for(name);
  request.ifr_data = reinterpret_cast<char*>(&link);
  return ioctl(control, SIOCETHTOOL, &request) == 0 && link.data != 0;
}

// Somebody has the name already: it is ours to use only if it is a persistent TUN that is left
// alone.
Result<int> attach_persistent(int control, const std::string& name) {
  if (in_use(control, name)) {
    return std::unexpected(attach_error(name, EBUSY));
  }
  for (const short extra : {short{IFF_MULTI_QUEUE}, short{0}}) {
    Result<int> fd = open_node();
    if (!fd) {
      return fd;
    }
    Descriptor holder(*fd);
    const int error = attach(*fd, name, static_cast<short>(kWanted | extra));
    if (error == EPERM || error == EACCES) {
      return std::unexpected(attach_error(name, error));
    }
    if (error != 0) {
      continue;  // EINVAL: not a TUN, or the other kind of queues
    }
    const Result<ifreq> found = device_of(*fd);
    if (found && (found->ifr_flags & IFF_PERSIST) != 0) {
      return holder.release();
    }
    break;  // another process' device: we were a queue of it for a moment
  }
  return std::unexpected(attach_error(name, EBUSY));
}

Result<int> create(int control, const std::string& name) {
  int error = 0;
  for (const short extra : {short{IFF_MULTI_QUEUE}, short{0}}) {
    Result<int> fd = open_node();
    if (!fd) {
      return fd;
    }
    Descriptor holder(*fd);
    error =
        attach(*fd, name, static_cast<short>(kWanted | extra | static_cast<short>(IFF_TUN_EXCL)));
    if (error == 0) {
      return holder.release();
    }
    if (error == EBUSY || error == EEXIST) {
      return attach_persistent(control, name);
    }
    if (error != EINVAL) {
      break;
    }
  }
  return std::unexpected(attach_error(name, error));
}

// Asks for the most the kernel grants: with USO (Linux 6.2), without, or nothing.
void negotiate(int fd, TunFeatures& features) {
  const unsigned long tso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
  const unsigned long uso = TUN_F_USO4 | TUN_F_USO6;
  if (!features.vnet_header) {
    ioctl(fd, TUNSETOFFLOAD, 0ul);  // or super-packets would come without a word about it
    return;
  }
  int header_bytes =
      static_cast<int>(kVnetHeaderBytes);  // the default; a handed-in queue may have another
  ioctl(fd, TUNSETVNETHDRSZ, &header_bytes);
  features.uso = ioctl(fd, TUNSETOFFLOAD, tso | uso) == 0;
  const bool granted = features.uso || ioctl(fd, TUNSETOFFLOAD, tso) == 0;
  features.checksum = features.tso4 = features.tso6 = granted;
  if (!granted) {
    ioctl(fd, TUNSETOFFLOAD, 0ul);
  }
  if (!features.uso) {
    features.why_no_uso = granted ? "needs Linux 6.2" : "the kernel refused TUNSETOFFLOAD";
  }
}

}  // namespace

Result<TunDevice> TunDevice::open(const std::string& name, unsigned queues, TunCalls calls) {
  if (name.empty() || name.size() >= IFNAMSIZ || name == "." || name == ".." ||
      name.find_first_of("/ \t\n:%") != std::string::npos) {
    return fail(
        "\"" + name + "\" is no interface name: 1 to 15 characters, no blanks, '/', ':' or '%'",
        EINVAL);
  }
  TunDevice device;
  device.control_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (device.control_ < 0) {
    return fail_errno("cannot open a control socket");
  }
  const Result<int> first = create(device.control_, name);
  if (!first) {
    return std::unexpected(first.error());
  }
  const Result<void> finished = device.finish(*first, queues, calls);
  if (!finished) {
    return std::unexpected(finished.error());
  }
  return device;
}

Result<TunDevice> TunDevice::adopt(int fd, unsigned queues, TunCalls calls) {
  Descriptor holder(fd);
  TunDevice device;
  device.control_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (device.control_ < 0) {
    return fail_errno("cannot open a control socket");
  }
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
      fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
    return fail_errno("the TUN descriptor " + std::to_string(fd) +
                      " that was handed in is not open");
  }
  const Result<void> finished = device.finish(holder.release(), queues, calls);
  if (!finished) {
    return std::unexpected(finished.error());
  }
  return device;
}

// From one attached descriptor to a device with all its ports. Owns `first` whatever happens.
Result<void> TunDevice::finish(int first, unsigned queues, TunCalls calls) {
  Descriptor holder(first);
  const Result<ifreq> found = device_of(first);
  if (!found) {
    return std::unexpected(found.error());
  }
  name_ = found->ifr_name;
  if ((found->ifr_flags & IFF_TUN) == 0 || (found->ifr_flags & IFF_NO_PI) == 0) {
    return fail(name_ + " is not usable: it must be a TUN device (not TAP) opened with IFF_NO_PI",
                EINVAL);
  }
  features_.vnet_header = (found->ifr_flags & IFF_VNET_HDR) != 0;
  features_.multi_queue = (found->ifr_flags & IFF_MULTI_QUEUE) != 0;
  features_.why_no_vnet_header = "the descriptor was handed in without IFF_VNET_HDR";
  features_.why_no_multi_queue = "the device was made without IFF_MULTI_QUEUE";
  negotiate(first, features_);

  std::vector<int> fds;  // owned by the ports
  const auto add = [this, &fds, calls](int fd) {
    fds.push_back(fd);
    ports_.push_back(std::make_unique<TunPort>(fd, name_, features_, true, calls));
  };
  add(holder.release());
  const short flags = static_cast<short>(IFF_TUN | IFF_NO_PI | IFF_MULTI_QUEUE |
                                         (features_.vnet_header ? IFF_VNET_HDR : 0));
  while (features_.multi_queue && fds.size() < queues && fds.size() < kQueuesMax) {
    const Result<int> fd = open_node();
    if (!fd) {
      break;
    }
    Descriptor queue(*fd);
    if (attach(*fd, name_, flags) != 0) {
      break;
    }
    add(queue.release());
  }
  queues_ = static_cast<unsigned>(fds.size());
  for (size_t i = queues_; i < queues; ++i) {
    const int fd = fcntl(fds[i % queues_], F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
      return fail_errno("cannot duplicate a queue of " + name_);
    }
    ports_.push_back(std::make_unique<TunPort>(fd, name_, features_, false, calls));
  }
  const Result<uint32_t> current = mtu();
  if (current && *current == kKernelDefaultMtu) {
    // An MTU that somebody chose stays. Without the privilege to set it, whoever made the device
    // has to.
    const Result<void> set = set_mtu(kDefaultMtu);
    if (!set && set.error().code != EPERM) {
      return set;
    }
  }
  return {};
}

TunDevice::TunDevice(TunDevice&& other) noexcept
    : name_(std::move(other.name_)),
      features_(std::move(other.features_)),
      queues_(other.queues_),
      control_(std::exchange(other.control_, -1)),
      ports_(std::move(other.ports_)) {}

TunDevice& TunDevice::operator=(TunDevice&& other) noexcept {
  std::swap(name_, other.name_);
  std::swap(features_, other.features_);
  std::swap(queues_, other.queues_);
  std::swap(control_, other.control_);
  std::swap(ports_, other.ports_);
  return *this;
}

TunDevice::~TunDevice() {
  if (control_ >= 0) {
    close(control_);
  }
}

std::vector<std::unique_ptr<Port>> TunDevice::take_ports() {
  return std::move(ports_);
}

Result<unsigned> TunDevice::index() const {
  ifreq request = request_for(name_);
  if (ioctl(control_, SIOCGIFINDEX, &request) != 0) {
    return fail_errno("cannot look up the interface " + name_);
  }
  return static_cast<unsigned>(request.ifr_ifindex);
}

Result<uint32_t> TunDevice::mtu() const {
  ifreq request = request_for(name_);
  if (ioctl(control_, SIOCGIFMTU, &request) != 0) {
    return fail_errno("cannot read the MTU of " + name_);
  }
  return static_cast<uint32_t>(request.ifr_mtu);
}

Result<void> TunDevice::set_mtu(uint32_t mtu) const {
  ifreq request = request_for(name_);
  request.ifr_mtu = static_cast<int>(mtu);
  if (ioctl(control_, SIOCSIFMTU, &request) != 0) {
    return fail_errno("cannot set the MTU of " + name_ + " to " + std::to_string(mtu));
  }
  return {};
}

Result<bool> TunDevice::is_up() const {
  ifreq request = request_for(name_);
  if (ioctl(control_, SIOCGIFFLAGS, &request) != 0) {
    return fail_errno("cannot read the state of " + name_);
  }
  return (request.ifr_flags & IFF_UP) != 0;
}

}  // namespace sallyport
