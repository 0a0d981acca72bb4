// Who belongs here, kept current: the register's life between peers.
//
// A proposal travels to the root volume's owner, who gives it its place (Order, below), appends it, and
// tells everyone connected; who was away learns from the register marks in greetings and pings that it is
// behind, and reads what it lacks from whoever said so. Joining: a seed dials back, then forwards the
// request to the root volume's owner.
// The loop's thread only. Callbacks run on it, never inside the call.
#pragma once

#include <deque>
#include <functional>
#include <set>

#include "peer/membership/messages.h"
#include "peer/membership/register_store.h"
#include "peer/net/rpc.h"
#include "peer/runtime/runtime.h"

namespace efs {

inline constexpr size_t kMaxQueuedProposals = 1024;
inline constexpr size_t kMaxDials = 64;  // back to peers that want to join, at once
// How long an ordered entry may take to come here before whoever waits for it is told.
inline constexpr int64_t kEntryPatience = 20 * kSecond;
// A peer whose entries were refused is not asked again for so long.
inline constexpr int64_t kRefusedFor = kMinute;

class Membership {
 public:
  // References outlive this. `rpc` is set with attach(), because it asks this for admissions.
  Membership(Runtime& runtime, RegisterStore& store, const KeyPair& key, const PeerId& self);

  void attach(Rpc& rpc);

  const RegisterState& state() const { return store_.state(); }
  RegisterStore& store() { return store_; }
  Admission admission_of(const PeerId& peer, const PublicKey& key) const;
  RegisterMark mark() const { return {state().version(), state().head()}; }
  const PublicKey& key() const { return key_.public_key(); }

  // How the root volume's owner makes an entry durable in its volume before it counts; empty elsewhere.
  using Order = std::function<void(uint64_t index, Bytes entry, std::function<void(Status)> done)>;
  void set_order(Order order) { order_ = std::move(order); }
  bool orders() const { return order_ != nullptr && state().may_order(key_.public_key()); }
  // Entries that the root volume holds beyond ours (after a crash between the two).
  Status take(const std::vector<Bytes>& entries);

  // Peers whose register does not fit this one's, and why: for people.
  std::vector<std::string> troubles() const;

  // Runs after entries were applied, with the index of the first.
  void on_change(std::function<void(uint64_t from)> listener) { listeners_.push_back(std::move(listener)); }
  void on_peer_up(const PeerInfo& peer);
  void on_mark(const PeerId& peer, const RegisterMark& mark);
  // Asks the root volume's owner: without error, our register holds all that it had when it was asked.
  void refresh(std::function<void(Status)> done);

  // Has a proposal ordered, wherever the root volume's owner is; done when it stands in our register too.
  void propose(Bytes proposal, std::function<void(Result<uint64_t>)> done);
  // The same for a change that this peer itself proposes.
  void propose_change(Change change, std::function<void(Result<uint64_t>)> done);

 private:
  struct Queued {
    std::function<Result<Bytes>()> make;  // the entry, from the register as it then is
    std::function<void(Result<uint64_t>)> done;
  };
  void handle_join(const Caller& caller, ByteView body, Responder respond);
  void admit(JoinMessage message, std::string reached_at, Responder respond);
  void dial_back(std::vector<std::string> addresses, PeerId wanted, std::string tried,
                 std::function<void(Result<std::string>)> done);
  void handle_read(ByteView body, Responder respond);
  void order(Queued queued);
  void order_next();
  void applied(uint64_t from);
  void announce(uint64_t from);
  void fetch(const PeerId& from);
  void refuse(const PeerId& from, const std::string& why);
  void tend_waiting();
  Result<bool> take_part(const Result<Answer>& answer);
  void wait_for(uint64_t index, std::function<void(Result<uint64_t>)> done);
  std::vector<PeerId> root_owners() const;

  Runtime& runtime_;
  RegisterStore& store_;
  const KeyPair& key_;
  const PeerId self_;
  Rpc* rpc_ = nullptr;
  Order order_;
  std::deque<Queued> queue_;
  bool ordering_ = false;
  std::set<PeerId> fetching_;
  std::vector<std::function<void(uint64_t)>> listeners_;
  struct Waiting {
    std::function<void(Result<uint64_t>)> done;
    int64_t until_ns = 0;
  };
  std::multimap<uint64_t, Waiting> waiting_;
  Timer waiting_timer_;
  struct Refused {
    std::string why;
    int64_t until_ns = 0;
  };
  std::map<PeerId, Refused> refused_;
  std::map<uint64_t, Network::Pending> dials_;
  uint64_t last_dial_ = 0;
};

}  // namespace efs
