// Every bound of the control room, on one page.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "dataplane/wireguard/limits.h"

namespace sallyport {

// -- A set request. 512 MiB holds kPeersMax peers of wg(8)'s usual 300 bytes and leaves room.
inline constexpr size_t kUapiLineBytesMax = 4096;
inline constexpr size_t kUapiRequestBytesMax = size_t{512} << 20;
inline constexpr size_t kUapiPeerLinesMax = 2 * wireguard::kPeersMax;  // remove all, add all
inline constexpr size_t kUapiAllowedIpLinesMax = size_t{1} << 23;

// -- The socket's clients. wg(8) comes, asks and goes; who stays holds a place until others want it.
inline constexpr size_t kUapiConnectionsMax = 64;
inline constexpr size_t kLocalReadBytes = 64 * 1024;
inline constexpr std::chrono::seconds kUapiUnreadAnswerMax{
    30};  // an answer nobody reads is given up

inline constexpr std::chrono::milliseconds kUapiTakeoverWait{2000};  // for a daemon that is ending

// -- The control socket of `sallyport run`. An answer may list a million routes; a question is short.
inline constexpr size_t kControlConnectionsMax = 16;
inline constexpr size_t kControlLineBytesMax = 64 * 1024;
inline constexpr size_t kControlJsonDepthMax = 16;
inline constexpr size_t kControlAnswerBytesMax = size_t{256} << 20;
inline constexpr std::chrono::seconds kControlUnreadAnswerMax{10};
inline constexpr std::chrono::seconds kControlSilenceMax{60};
inline constexpr size_t kControlTraceBytesMax = size_t{1}
                                                << 20;  // events a slow reader has not taken
inline constexpr std::chrono::milliseconds kControlTakeoverWait{2000};
inline constexpr std::chrono::seconds kControlAnswerWait{
    120};  // a reload may read a million prefixes

// -- `reload --confirm`: from a slip of the finger to a night's sleep.
inline constexpr std::chrono::seconds kConfirmMin{1};
inline constexpr std::chrono::seconds kConfirmMax{24 * 3600};
inline constexpr size_t kConfirmRecordBytesMax = size_t{128} << 20;

// -- `sallyport diff`: of one table, beyond which routes are counted and not named.
inline constexpr size_t kDiffRoutesMax = 20;

// -- `sallyport status` as a client.
inline constexpr std::chrono::seconds kStatusAnswerWait{5};
inline constexpr std::chrono::milliseconds kStatusLoadSample{200};

// -- Configuration files.
inline constexpr size_t kConfigBytesMax = size_t{64} << 20;
inline constexpr size_t kSetListBytesMax = size_t{256} << 20;
inline constexpr size_t kSetListErrorsMax = 20;     // named, of one list
inline constexpr size_t kConfigProblemsMax = 1000;  // named, of one file
inline constexpr size_t kConfigDepthMax = 32;       // tables within tables
inline constexpr size_t kConfigKeyDotsMax = 64;     // of one dotted key
inline constexpr size_t kConfigNameMax = 64;        // of a set, an exit, a table, a rule, a peer
inline constexpr size_t kGroupMembersMax = 255;
inline constexpr uint32_t kGroupWeightMax = 65535;

// -- Flows, NAT and filters.
inline constexpr uint32_t kFlowsMin = 1024;
inline constexpr uint32_t kFlowsMax = uint32_t{16} << 20;
inline constexpr size_t kFragmentedPackets = 4096;  // whose ports are remembered, at one time
inline constexpr size_t kNatEntriesMax = 1024;
inline constexpr size_t kFilterEntriesMax = 4096;
inline constexpr size_t kNatRangesMax = 64;  // of one rule's addresses

inline constexpr size_t kFlowsShown = 10'000;  // by one `show flows`
inline constexpr std::chrono::seconds kFlowSweepInterval{1};
inline constexpr size_t kFlowsSwept = size_t{1} << 18;  // looked at by each sweep

// -- Tunnels within tunnels: each layer needs room in front of a packet.
inline constexpr size_t kNestingMax = 8;

// -- Names of endpoints. Retries as wg(8) does them, x1.2 from one second, but without an end.
inline constexpr size_t kResolvedPerFamilyMax =
    16;                                            // addresses kept of one answer, A and AAAA each
inline constexpr size_t kResolverLookupsMax = 64;  // at one time; other names wait their turn
inline constexpr size_t kNameServersMax = 8;
inline constexpr size_t kHostsFileLinesMax = 1'000'000;
inline constexpr std::chrono::seconds kNameLifetimeMin{5}, kNameLifetimeMax{3600};
inline constexpr std::chrono::seconds kHostsLifetime{60};  // of what /etc/hosts says: it has no TTL
inline constexpr std::chrono::seconds kNameRetryMin{1}, kNameRetryMax{60};
inline constexpr double kNameRetryGrowth = 1.2;
inline constexpr std::chrono::milliseconds kNameServerWait{2000};  // doubled on each round
inline constexpr unsigned kNameServerRounds = 2;
inline constexpr std::chrono::seconds kResolvConfLook{1};  // only while names fail

// -- The proof that no tunnel seals its own datagrams: steps, of some 5 to 20 ns.
inline constexpr uint64_t kLoopEffortMax = uint64_t{1} << 27;

// -- List files of sets.
inline constexpr std::chrono::milliseconds kSetFileQuiet{
    200};  // this long unchanged: written to its end
inline constexpr std::chrono::milliseconds kSetFileRetry{1000};  // for a folder that is missing
inline constexpr std::chrono::seconds kSetFileLook{30};          // for what inotify cannot see

// -- Exits.
inline constexpr unsigned kExitProbesKept =
    32;  // outstanding ones, and those that loss is counted over

// -- Groups of exits: flows of one group that keep their member, 8 bytes each.
inline constexpr size_t kAffinityFlows = size_t{1} << 16;

// -- The program.
inline constexpr size_t kInterfaceNameMax = 15;  // IFNAMSIZ - 1

}  // namespace sallyport
