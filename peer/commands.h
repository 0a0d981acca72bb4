// The commands of the control socket (peer/control/protocol.h lists them, with who may send each).
//
// Each takes JSON arguments and answers JSON, or an error with a message for people. The loop's thread only.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>

#include "peer/control/protocol.h"
#include "peer/core.h"

namespace efs {

class Commands {
 public:
  // What `core` refers to outlives this.
  explicit Commands(Core& core);

  struct Caller {
    uint32_t uid = 0, gid = 0;
    std::vector<uint32_t> groups;
    bool may_change = false;  // root, or the user that runs this peer
  };
  using Done = std::function<void(Result<std::string> json)>;
  // Runs one; checks that the caller may. `done` runs once, on the loop.
  void run(const Caller& caller, const std::string& name, const std::string& arguments, Done done);

 private:
  using Json = nlohmann::ordered_json;
  using Handler = void (Commands::*)(const Caller&, const Json&, Done);
  static Handler handler_of(std::string_view name);

  void status(const Caller&, const Json&, Done);
  void where(const Caller&, const Json&, Done);
  void where_user(const std::string& user, Done);
  struct Where;
  void where_extents(const std::shared_ptr<Where>& where);
  void mount(const Caller&, const Json&, Done);
  void umount(const Caller&, const Json&, Done);
  void mounts(const Caller&, const Json&, Done);
  void volume_create(const Caller&, const Json&, Done);
  void volume_ls(const Caller&, const Json&, Done);
  void volume_show(const Caller&, const Json&, Done);
  void volume_set(const Caller&, const Json&, Done);
  void volume_rm(const Caller&, const Json&, Done);
  void peer_ls(const Caller&, const Json&, Done);
  void peer_show(const Caller&, const Json&, Done);
  void peer_rm(const Caller&, const Json&, Done);
  void store_ls(const Caller&, const Json&, Done);
  void store_add(const Caller&, const Json&, Done);
  void store_drain(const Caller&, const Json&, Done);
  void store_rm(const Caller&, const Json&, Done);
  void invite_context(const Caller&, const Json&, Done);
  void invite(const Caller&, const Json&, Done);
  void leave(const Caller&, const Json&, Done);

  // The status JSON, parsed: what the ls and show commands cut their rows from.
  void with_status(std::function<void(Json status, MeshView view)> use);
  Status keep_stores();
  Core& core_;
};

}  // namespace efs
