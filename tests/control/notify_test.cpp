// sd_notify's datagrams, received on sockets of the test's own: a path, an abstract name, and nobody at all.
#include "control/notify.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "tests/control/local_client.h"

namespace sallyport {
namespace {

// What systemd is to the daemon.
class Manager {
 public:
  explicit Manager(const std::string& name) : fd_(socket(AF_UNIX, SOCK_DGRAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path, name.size());
    if (name[0] == '@') {
      address.sun_path[0] = '\0';
    }
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), length), 0) << std::strerror(errno);
    setenv("NOTIFY_SOCKET", name.c_str(), 1);
  }
  ~Manager() {
    close(fd_);
    for (const char* variable : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) {
      unsetenv(variable);
    }
  }
  std::string hear() const {
    char bytes[1024];
    const ssize_t count = recv(fd_, bytes, sizeof(bytes), MSG_DONTWAIT);
    return count < 0 ? "" : std::string(bytes, static_cast<size_t>(count));
  }

 private:
  int fd_;
};

void says_everything(const Manager& manager) {
  auto notify = Notify::from_environment();
  ASSERT_TRUE(notify) << notify.error().text;
  EXPECT_TRUE(notify->active());
  notify->ready();
  EXPECT_EQ(manager.hear(), "READY=1");
  notify->ready("2 tunnels");
  EXPECT_EQ(manager.hear(), "READY=1\nSTATUS=2 tunnels");
  notify->status("one\nREADY=1");
  EXPECT_EQ(manager.hear(), "STATUS=one READY=1");
  notify->watchdog();
  EXPECT_EQ(manager.hear(), "WATCHDOG=1");
  notify->stopping();
  EXPECT_EQ(manager.hear(), "STOPPING=1");
}

TEST(NotifyTest, SpeaksToAPath) {
  const Folder folder;
  says_everything(Manager(folder.path() + "/notify"));
}

TEST(NotifyTest, SpeaksToAnAbstractName) {
  says_everything(Manager("@sallyport-notify-test-" + std::to_string(getpid())));
}

TEST(NotifyTest, TellsWhenReloadingBegan) {
  const Folder folder;
  const Manager manager(folder.path() + "/notify");
  auto notify = Notify::from_environment();
  ASSERT_TRUE(notify);
  const auto now = [] {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<unsigned long long>(time.tv_sec) * 1'000'000 +
           static_cast<unsigned long long>(time.tv_nsec) / 1'000;
  };
  const auto before = now();
  notify->reloading();
  const std::string heard = manager.hear();
  const std::string head = "RELOADING=1\nMONOTONIC_USEC=";
  ASSERT_TRUE(heard.starts_with(head)) << heard;
  const auto told = std::stoull(heard.substr(head.size()));
  EXPECT_GE(told, before);
  EXPECT_LE(told, now());
}

TEST(NotifyTest, KnowsTheWatchdogThatIsMeantForIt) {
  const Folder folder;
  const Manager manager(folder.path() + "/notify");
  const auto interval = [] { return Notify::from_environment()->watchdog_interval(); };
  EXPECT_FALSE(interval());
  setenv("WATCHDOG_USEC", "30000000", 1);
  EXPECT_EQ(interval(), std::chrono::seconds(30));
  setenv("WATCHDOG_PID", std::to_string(getpid()).c_str(), 1);
  EXPECT_EQ(interval(), std::chrono::seconds(30));
  setenv("WATCHDOG_PID", std::to_string(getpid() + 1).c_str(), 1);
  EXPECT_FALSE(interval());
  unsetenv("WATCHDOG_PID");
  for (const char* nonsense : {"0", "", "x", "5s", "99999999999999999999"}) {
    setenv("WATCHDOG_USEC", nonsense, 1);
    EXPECT_FALSE(interval()) << nonsense;
  }
}

TEST(NotifyTest, IsSilentWhereNobodyAsks) {
  unsetenv("NOTIFY_SOCKET");
  auto notify = Notify::from_environment();
  ASSERT_TRUE(notify);
  EXPECT_FALSE(notify->active());
  EXPECT_FALSE(notify->watchdog_interval());
  notify->ready();
  notify->stopping();
}

TEST(NotifyTest, RefusesWhatItCannotReach) {
  for (const std::string& name : {std::string("relative"), std::string("@"),
                                  std::string("vsock:2:1"), "/" + std::string(200, 'x')}) {
    setenv("NOTIFY_SOCKET", name.c_str(), 1);
    const auto notify = Notify::from_environment();
    ASSERT_FALSE(notify) << name;
    EXPECT_NE(notify.error().text.find("NOTIFY_SOCKET"), std::string::npos);
  }
  unsetenv("NOTIFY_SOCKET");
}

TEST(NotifyTest, SurvivesAManagerThatIsGoneAndMoves) {
  const Folder folder;
  Notify notify;
  {
    const Manager manager(folder.path() + "/notify");
    notify = std::move(*Notify::from_environment());
    notify.ready();
    EXPECT_EQ(manager.hear(), "READY=1");
  }
  notify.ready();
  EXPECT_TRUE(notify.active());
}

}  // namespace
}  // namespace sallyport
