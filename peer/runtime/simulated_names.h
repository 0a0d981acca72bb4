// The names of a simulated disk: a tree, what of it is synced, and what a power loss makes of the rest.
//
// Each change of names (one create, removal or rename; a rename is atomic) waits in a journal for the
// sync_directory() of its directory (a rename: of the one that it leads to). A power loss keeps each waiting
// change or not, by the seed; one that touches a name is kept only if all waiting ones before it at that name
// are. Inside efs_simulated only; one thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "peer/base/error.h"
#include "peer/runtime/simulated_content.h"

namespace efs {

struct SimulatedNode {
  SimulatedNode(bool is_directory, uint64_t& disk_pages) : directory(is_directory), used_pages(disk_pages) {}
  ~SimulatedNode() { used_pages -= content.pages(); }
  SimulatedNode(const SimulatedNode&) = delete;
  SimulatedNode& operator=(const SimulatedNode&) = delete;

  using Ref = std::shared_ptr<SimulatedNode>;
  const bool directory;
  std::map<std::string, Ref> entries, synced_entries;
  SimulatedContent content;
  uint64_t& used_pages;  // of the whole disk
  bool visited = false;  // by power_loss
};

class SimulatedNames {
 public:
  using Ref = SimulatedNode::Ref;
  struct Place {  // a name that may or may not be there
    Ref directory;
    std::string name;
    Ref node;  // nullptr: it is not
  };

  SimulatedNames();

  // Errors as open(2) has them. The root itself has no place: `name` is empty.
  Result<Place> find(const std::string& path) const;
  Status make_directories(const std::string& path);
  Ref create(const Place& place);
  Status remove(const Place& place);
  Status rename(const Place& from, const Place& to);
  void sync_directory(const SimulatedNode& directory);
  void sync_all();
  void power_loss(Random& random);
  uint64_t& used_pages() { return used_pages_; }

 private:
  struct Effect {
    Ref directory;
    std::string name;
    Ref node;  // nullptr: removed
  };
  struct Change {
    std::vector<Effect> effects;  // the last one's directory is the one to sync
    bool commit = false;
  };

  void change(std::vector<Effect> effects);
  void commit_marked();
  void visit(SimulatedNode& node, Random& random, std::vector<SimulatedNode*>& visited);

  uint64_t used_pages_ = 0;  // before root_: nodes write to it as they go
  Ref root_;
  std::vector<Change> waiting_;
};

}  // namespace efs
