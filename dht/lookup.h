// One iterative lookup (Kademlia, section 2.3): asks the closest contacts known for closer ones, alpha at a
// time, until the `width` closest that answer have answered; or, looking for a value, until enough holders
// have returned one.
//
// Pure: it says whom to ask, and is told what came back; timeouts are its owner's. Nobody's word is enough:
// every contact remembers who named it first, and whoever named more contacts that do not answer than ones
// that do (with an allowance) loses its say in this lookup: what else it named is asked last, and does not
// keep the lookup from ending. So a liar costs a lookup a second, never its result.
#pragma once

#include <optional>
#include <vector>

#include "dht/id.h"
#include "dht/messages.h"

namespace efs::dht {

class Lookup {
 public:
  // `quorum` > 0: look for a value, and be content with so many of them.
  Lookup(const Id& self, const Id& target, size_t width, size_t quorum)
      : self_(self), target_(target), width_(width), quorum_(quorum) {}

  void add_known(const std::vector<Contact>& contacts);

  // Whom to ask next, if anybody: call until it returns nothing, after every event below.
  std::optional<Contact> next();

  void answered(const Id& from, const std::vector<Contact>& contacts);
  void answered(const Id& from, const Record& record);
  // No answer yet: somebody else may be asked; the answer is still welcome.
  void slow(const Id& from);
  void failed(const Id& from);

  bool finished() const;

  const Id& target() const { return target_; }
  bool wants_value() const { return quorum_ > 0; }
  // Those that answered without a value, closest first, at most `width`.
  std::vector<Contact> closest() const;
  // The record that supersedes all others that came.
  const std::optional<Record>& best() const { return best_; }
  // Who answered with a record that best() supersedes.
  std::vector<Contact> outdated() const;
  size_t answers() const { return answers_; }
  size_t requests() const { return requests_; }
  // How many steps from our own table lay the nearest holder that answered, or else the closest peer found.
  int hops() const;

 private:
  enum class State : uint8_t { fresh, asked, slow, answered, holder, failed };
  struct Candidate {
    Contact contact;
    State state = State::fresh;
    int hops = 1;
    int source = -1;  // index into sources_; -1: our own table
    uint64_t version = 0;
  };
  struct Source {
    int alive = 0, dead = 0;
  };
  Candidate* find(const Id& id);
  void add(const Contact& contact, int hops, int source);
  void count_dead(const Candidate& candidate);
  bool distrusted(const Candidate& candidate) const;
  Candidate* pick(bool trusted_only);

  Id self_, target_;
  size_t width_, quorum_;
  std::vector<Candidate> candidates_;  // closest first
  std::vector<Source> sources_;
  std::optional<Record> best_;
  size_t in_flight_ = 0, answers_ = 0, values_ = 0, requests_ = 0;
};

}  // namespace efs::dht
