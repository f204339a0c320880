#include "control/dns_lookup.h"

#include <arpa/nameser.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <fstream>
#include <sstream>
#include <utility>

namespace sallyport {
namespace {

using boost::asio::posix::stream_descriptor;
using boost::system::error_code;

constexpr uint16_t kDnsPort = 53;
constexpr uint32_t kTtlMax = 0x7fffffff;  // RFC 2181 section 8

bool is_loopback(const IpAddress& address) {
  constexpr uint8_t kV6Loopback[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return address.family == Family::v4 ? address.bytes[0] == 127
                                      : std::memcmp(address.bytes.data(), kV6Loopback, 16) == 0;
}

void add_once(std::vector<IpAddress>& addresses, const IpAddress& address) {
  if (addresses.size() < kResolvedPerFamilyMax && is_usable_endpoint(address) &&
      std::find(addresses.begin(), addresses.end(), address) == addresses.end()) {
    addresses.push_back(address);
  }
}

std::string describe(const Endpoint& server) {
  return server.port == kDnsPort && server.scope == 0 ? to_text(server.remote) : to_text(server);
}

}  // namespace

Result<Endpoint> parse_name_server(std::string_view text) {
  const bool v6_alone = !text.starts_with('[') && std::count(text.begin(), text.end(), ':') > 1;
  const bool has_port = text.starts_with('[')
                            ? text.find("]:") != std::string_view::npos
                            : !v6_alone && text.find(':') != std::string_view::npos;
  std::string full(text);
  if (v6_alone) {
    full = "[" + full + "]";
  }
  if (!has_port) {
    full += ":" + std::to_string(kDnsPort);
  }
  auto server = parse_endpoint(full);
  if (!server || server->port == 0) {
    return fail("'" + std::string(text) +
                "' is not a name server: write 192.0.2.53, 192.0.2.53:5353, 2001:db8::53, "
                "[2001:db8::53]:5353 or fe80::1%wan");
  }
  return server;
}

std::vector<Endpoint> read_name_servers(const std::string& path) {
  std::vector<Endpoint> servers;
  std::ifstream file(path);
  std::string line;
  for (size_t lines = 0; lines < kHostsFileLinesMax && std::getline(file, line); ++lines) {
    std::istringstream words(line);
    std::string key, value;
    if (words >> key >> value && key == "nameserver" && servers.size() < kNameServersMax) {
      if (const auto server = parse_name_server(value)) {
        servers.push_back(*server);
      }
    }
  }
  return servers;
}

std::vector<IpAddress> read_hosts(const std::string& path, std::string_view name) {
  const std::string wanted(name.ends_with('.') ? name.substr(0, name.size() - 1) : name);
  std::vector<IpAddress> found;
  std::ifstream file(path);
  std::string line;
  for (size_t lines = 0; lines < kHostsFileLinesMax && std::getline(file, line); ++lines) {
    if (strcasestr(line.c_str(), wanted.c_str()) == nullptr) {
      continue;
    }
    std::istringstream words(line.substr(0, line.find('#')));
    std::string address, alias;
    words >> address;
    while (words >> alias) {
      if (strcasecmp(alias.c_str(), wanted.c_str()) == 0) {
        if (const auto parsed = parse_address(address)) {
          found.push_back(*parsed);
        }
        break;
      }
    }
  }
  return found;
}

bool is_usable_endpoint(const IpAddress& address) {
  if (address.family == Family::v4) {
    return address.bytes[0] != 0 && address.bytes[0] < 224;
  }
  constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return address.family == Family::v6 && address.bytes[0] != 0xff &&
         address != IpAddress{{}, Family::v6} &&
         std::memcmp(address.bytes.data(), kMapped, sizeof(kMapped)) != 0;
}

// --- One attempt ---------------------------------------------------------------------------------

std::shared_ptr<DnsLookup> DnsLookup::start(boost::asio::io_context& context,
                                            const std::string& name, const Underlay& underlay,
                                            const Settings& settings, Answered answered) {
  std::shared_ptr<DnsLookup> lookup(
      new DnsLookup(context, underlay, settings, std::move(answered)));
  lookup->ask(name);
  return lookup;
}

DnsLookup::DnsLookup(boost::asio::io_context& context, const Underlay& underlay,
                     const Settings& settings, Answered answered)
    : context_(context),
      underlay_(underlay),
      settings_(settings),
      answered_(std::move(answered)),
      timeout_(context),
      questions_{{this, Family::v4}, {this, Family::v6}} {}

DnsLookup::~DnsLookup() {
  if (channel_ != nullptr) {
    ares_destroy(channel_);  // calls replied and socket_state a last time
  }
}

void DnsLookup::ask(const std::string& name) {
  servers_stated_ = !underlay_.servers.empty();
  if (!servers_stated_ && answer_from_hosts(name)) {
    return;
  }
  auto ready = find_servers();
  if (ready) {
    ready = open_channel();
  }
  if (!ready) {
    return fail_both(ready.error().text);
  }
  ares_search(channel_, name.c_str(), ns_c_in, ns_t_a, replied, &questions_[0]);
  ares_search(channel_, name.c_str(), ns_c_in, ns_t_aaaa, replied, &questions_[1]);
  wait_all();
}

// As libc: a name that the file has in either family is not asked for.
bool DnsLookup::answer_from_hosts(const std::string& name) {
  const auto found = read_hosts(settings_.hosts, name);
  Answer answers[2];
  for (size_t i = 0; i < 2; ++i) {
    answers[i].family = questions_[i].family;
    for (const IpAddress& address : found) {
      if (address.family == answers[i].family) {
        add_once(answers[i].addresses, address);
      }
    }
    answers[i].outcome = answers[i].addresses.empty() ? Outcome::none : Outcome::addresses;
    answers[i].lifetime = kHostsLifetime;
  }
  if (answers[0].addresses.empty() && answers[1].addresses.empty()) {
    return false;
  }
  give(std::move(answers[0]));
  give(std::move(answers[1]));
  return true;
}

Result<void> DnsLookup::find_servers() {
  for (const std::string& text : underlay_.servers) {
    const auto server = parse_name_server(text);
    if (!server) {
      return std::unexpected(server.error());
    }
    if (servers_.size() < kNameServersMax) {
      servers_.push_back(*server);
    }
  }
  if (!servers_stated_) {
    servers_ = read_name_servers(settings_.resolv_conf);
  }
  if (servers_.empty()) {  // resolv.conf(5): "the name server on the local machine"
    servers_assumed_ = true;
    servers_.push_back(*parse_name_server("127.0.0.1"));
  }
  return {};
}

Result<void> DnsLookup::open_channel() {
  static const int library = ares_library_init(ARES_LIB_INIT_ALL);
  char lookups[] = "b";
  char nothing[] = "/dev/null";
  ares_options options{};
  options.flags = ARES_FLAG_NOALIASES | (servers_stated_ ? ARES_FLAG_NOSEARCH : 0);
  options.timeout = static_cast<int>(settings_.server_wait.count());
  options.tries = static_cast<int>(settings_.rounds);
  options.lookups = lookups;
  options.resolvconf_path = servers_stated_ ? nothing : settings_.resolv_conf.data();
  options.sock_state_cb = socket_state;
  options.sock_state_cb_data = this;
  int status = library;
  if (status == ARES_SUCCESS) {
    status = ares_init_options(&channel_, &options,
                               ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
                                   ARES_OPT_LOOKUPS | ARES_OPT_RESOLVCONF | ARES_OPT_SOCK_STATE_CB);
  }
  if (status != ARES_SUCCESS) {
    channel_ = nullptr;
    return fail(std::string("cannot start a DNS query: ") + ares_strerror(status));
  }
  std::vector<ares_addr_port_node> nodes(servers_.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    nodes[i] = {};
    nodes[i].next = i + 1 < nodes.size() ? &nodes[i + 1] : nullptr;
    nodes[i].family = servers_[i].remote.family == Family::v4 ? AF_INET : AF_INET6;
    nodes[i].udp_port = nodes[i].tcp_port = servers_[i].port;
    std::memcpy(&nodes[i].addr, servers_[i].remote.bytes.data(),
                servers_[i].remote.family == Family::v4 ? 4 : 16);
  }
  status = ares_set_servers_ports(channel_, nodes.data());
  if (status != ARES_SUCCESS) {
    return fail(std::string("cannot set the DNS servers: ") + ares_strerror(status));
  }
  static const ares_socket_functions functions = {open_socket, close_socket, connect_socket,
                                                  receive, send};
  ares_set_socket_functions(channel_, &functions, this);
  return {};
}

void DnsLookup::fail_both(const std::string& text) {
  for (const Question& question : questions_) {
    Answer answer;
    answer.family = question.family;
    answer.error = text;
    give(std::move(answer));
  }
}

// Later, from the loop: whoever hears it may drop this lookup, and c-ares must not be on the stack then.
void DnsLookup::give(Answer answer) {
  boost::asio::post(context_, [weak = weak_from_this(), answer = std::move(answer)] {
    if (const auto self = weak.lock()) {
      self->answered_(answer);
    }
  });
}

// --- Answers -------------------------------------------------------------------------------------

void DnsLookup::replied(void* question, int status, int /*timeouts*/, unsigned char* bytes,
                        int length) {
  const auto [self, family] = *static_cast<Question*>(question);
  if (status == ARES_EDESTRUCTION || status == ARES_ECANCELLED) {
    return;
  }
  Answer answer;
  if (status == ARES_SUCCESS) {
    answer = self->read_reply(family, bytes, length);
  } else {
    const bool none = status == ARES_ENOTFOUND || status == ARES_ENODATA;
    answer.outcome = none ? Outcome::none : Outcome::failed;
    answer.error = self->sentence(status);
  }
  answer.family = family;
  self->give(std::move(answer));
}

DnsLookup::Answer DnsLookup::read_reply(Family family, const unsigned char* bytes,
                                        int length) const {
  constexpr int kReadMax = 64;  // some may be unusable, or twice there
  Answer answer;
  int count = kReadMax;
  int status = ARES_SUCCESS;
  uint32_t lifetime = kTtlMax;
  const auto add = [&](const IpAddress& address, int ttl) {
    add_once(answer.addresses, address);
    lifetime = std::min(lifetime, ttl < 0 ? 0 : static_cast<uint32_t>(ttl));
  };
  if (family == Family::v4) {
    ares_addrttl found[kReadMax];
    status = ares_parse_a_reply(bytes, length, nullptr, found, &count);
    for (int i = 0; status == ARES_SUCCESS && i < count; ++i) {
      add(IpAddress::v4(&found[i].ipaddr), found[i].ttl);
    }
  } else {
    ares_addr6ttl found[kReadMax];
    status = ares_parse_aaaa_reply(bytes, length, nullptr, found, &count);
    for (int i = 0; status == ARES_SUCCESS && i < count; ++i) {
      add(IpAddress::v6(&found[i].ip6addr), found[i].ttl);
    }
  }
  if (!answer.addresses.empty()) {
    answer.outcome = Outcome::addresses;
    answer.lifetime = std::chrono::seconds(lifetime);
  } else if (status == ARES_SUCCESS && count > 0) {
    answer.outcome = Outcome::none;
    answer.error = "only addresses that nobody can be at (0.0.0.0, multicast)";
  } else {
    const bool none = status == ARES_ENODATA || status == ARES_SUCCESS;
    answer.outcome = none ? Outcome::none : Outcome::failed;
    answer.error = sentence(none ? static_cast<int>(ARES_ENODATA) : status);
  }
  return answer;
}

std::string DnsLookup::sentence(int status) const {
  std::string text;
  switch (status) {
    case ARES_ENOTFOUND:
      text = "no such name";
      break;
    case ARES_ENODATA:
      text = "the name has no address";
      break;
    case ARES_ETIMEOUT:
      text = "no answer";
      break;
    case ARES_EBADNAME:
      return "not a name that DNS can carry";
    case ARES_ECONNREFUSED:
      text = trouble_.empty() ? "the name server cannot be reached" : trouble_;
      break;
    default:
      text = ares_strerror(status);
  }
  std::string asked;
  for (const Endpoint& server : servers_) {
    asked += (asked.empty() ? "" : ", ") + describe(server);
  }
  if (!underlay_.device.empty()) {
    asked += " on " + underlay_.device;
  }
  if (servers_assumed_) {
    asked += ", since " + settings_.resolv_conf + " names no server";
  }
  return text + " (asked " + asked + ")";
}

// --- Sockets, as c-ares wants them ---------------------------------------------------------------

// Keeps the errno for c-ares.
void DnsLookup::note(const std::string& what) {
  const int code = errno;
  trouble_ = what + ": " + std::strerror(code);
  errno = code;
}

ares_socket_t DnsLookup::open_socket(int family, int type, int protocol, void* self_pointer) {
  auto* self = static_cast<DnsLookup*>(self_pointer);
  const int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  if (fd < 0) {
    self->note("cannot open a socket for DNS");
    return ARES_SOCKET_BAD;
  }
  const uint32_t mark = self->underlay_.mark;
  if (mark != 0 && setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0) {
    self->note("cannot mark DNS queries (needs CAP_NET_ADMIN)");
    close(fd);
    return ARES_SOCKET_BAD;
  }
  return fd;
}

int DnsLookup::close_socket(ares_socket_t fd, void* /*self*/) {
  return close(fd);
}

int DnsLookup::connect_socket(ares_socket_t fd, const sockaddr* to, ares_socklen_t length,
                              void* self_pointer) {
  auto* self = static_cast<DnsLookup*>(self_pointer);
  const std::string& device = self->underlay_.device;
  sockaddr_storage address{};
  std::memcpy(&address, to, std::min<size_t>(length, sizeof(address)));
  Endpoint server;
  from_sockaddr(address, server);
  const bool local = is_loopback(server.remote);
  if (!device.empty() && local && !self->servers_stated_) {
    errno = EACCES;
    self->trouble_ = "a name server on this host cannot promise to ask by " + device +
                     " only: state the tunnel's resolvers";
    return -1;
  }
  if (!device.empty() && !local &&
      setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device.c_str(),
                 static_cast<socklen_t>(device.size())) < 0) {
    self->note("cannot send DNS queries by " + device);
    return -1;
  }
  for (const Endpoint& known : self->servers_) {  // c-ares has no place for a scope
    if (known.remote == server.remote && known.port == server.port && known.scope != 0) {
      server.scope = known.scope;
      to_sockaddr(server, address);
      break;
    }
  }
  const int result = connect(fd, reinterpret_cast<const sockaddr*>(&address), length);
  if (result < 0 && errno != EINPROGRESS) {
    self->note("no way to " + describe(server));
  }
  return result;
}

ares_ssize_t DnsLookup::receive(ares_socket_t fd, void* bytes, size_t length, int flags,
                                sockaddr* from, ares_socklen_t* from_length, void* self) {
  const ssize_t got = recvfrom(fd, bytes, length, flags, from, from_length);
  if (got < 0 && errno != EAGAIN) {
    static_cast<DnsLookup*>(self)->note("the name server cannot be reached");
  }
  // c-ares goes on to the next server after these, and does not say so in the end.
  constexpr size_t kCodeAt = 3;  // RCODE, RFC 1035 4.1.1
  const int code = got > 12 ? static_cast<const uint8_t*>(bytes)[kCodeAt] & 15 : 0;
  if (code == 2) {
    static_cast<DnsLookup*>(self)->trouble_ = "the name server failed (SERVFAIL)";
  } else if (code == 4 || code == 5) {
    static_cast<DnsLookup*>(self)->trouble_ = "the name server refuses to answer";
  }
  return got;
}

ares_ssize_t DnsLookup::send(ares_socket_t fd, const iovec* parts, int count, void* self) {
  const ssize_t sent = writev(fd, parts, count);
  if (sent < 0 && errno != EAGAIN) {
    static_cast<DnsLookup*>(self)->note("cannot send DNS queries");
  }
  return sent;
}

// --- Waiting -------------------------------------------------------------------------------------

void DnsLookup::socket_state(void* self_pointer, ares_socket_t fd, int readable, int writable) {
  auto* self = static_cast<DnsLookup*>(self_pointer);
  const auto known = self->sockets_.find(fd);
  if (readable == 0 && writable == 0) {
    if (known != self->sockets_.end()) {
      known->second.descriptor.release();  // c-ares closes it
      self->sockets_.erase(known);
    }
    return;
  }
  auto place = known;
  if (place == self->sockets_.end()) {
    stream_descriptor descriptor(self->context_);
    error_code error;
    descriptor.assign(fd, error);
    if (error) {  // unheard, so that the question runs into its timeout
      return;
    }
    place =
        self->sockets_.emplace(fd, Socket{std::move(descriptor), self->next_socket_id_++}).first;
  }
  Socket& socket = place->second;
  socket.wants_read = readable != 0;
  socket.wants_write = writable != 0;
}

void DnsLookup::wait_all() {
  for (auto& [fd, socket] : sockets_) {
    if (socket.wants_read && !socket.reading) {
      wait(fd, socket, true);
    }
    if (socket.wants_write && !socket.writing) {
      wait(fd, socket, false);
    }
  }
  wait_timeout();
}

void DnsLookup::wait(int fd, Socket& socket, bool read) {
  (read ? socket.reading : socket.writing) = true;
  socket.descriptor.async_wait(
      read ? stream_descriptor::wait_read : stream_descriptor::wait_write,
      [weak = weak_from_this(), fd, id = socket.id, read](error_code error) {
        const auto self = weak.lock();
        if (error || self == nullptr) {
          return;
        }
        const auto found = self->sockets_.find(fd);
        if (found == self->sockets_.end() || found->second.id != id) {
          return;
        }
        (read ? found->second.reading : found->second.writing) = false;
        ares_process_fd(self->channel_, read ? fd : ARES_SOCKET_BAD, read ? ARES_SOCKET_BAD : fd);
        self->wait_all();
      });
}

void DnsLookup::wait_timeout() {
  timeval left;
  if (ares_timeout(channel_, nullptr, &left) == nullptr) {
    timeout_.cancel();
    return;
  }
  timeout_.expires_after(std::chrono::seconds(left.tv_sec) +
                         std::chrono::microseconds(left.tv_usec));
  timeout_.async_wait([weak = weak_from_this()](error_code error) {
    const auto self = weak.lock();
    if (error || self == nullptr) {
      return;
    }
    ares_process_fd(self->channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    self->wait_all();
  });
}

}  // namespace sallyport
