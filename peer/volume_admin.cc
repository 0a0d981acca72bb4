#include "peer/volume_admin.h"

#include "peer/identity/prefix.h"

namespace efs {

namespace {
constexpr int kNumberTries = 8;  // two volumes made at once may pick the same number
constexpr int64_t kAwaitStep = 100 * kMillisecond;
constexpr int64_t kAwaitAtMost = 15 * kSecond;
constexpr int64_t kJunctionTimeout = 10 * kSecond;
constexpr int64_t kDropTimeout = 30 * kSecond;

Status status_of(const Reply& reply, const std::string& what) {
  if (reply.code == Code::ok) return {};
  return fail(reply.code,
              what + ": " + (reply.message.empty() ? std::string(name_of(reply.code)) : reply.message));
}
}  // namespace

struct VolumeAdmin::Creation {
  NewVolume wanted;
  Done done;
  VolumeFacts parent;
  AddVolume charter;
  int tries = 0;
  int64_t deadline_ns = 0;
};

void VolumeAdmin::create(const NewVolume& wanted, Done done) {
  const RegisterState& state = membership_.state();
  auto refuse = [&](Code code, std::string why) {
    runtime_.loop.post([done, code, why = std::move(why)] { done(fail(code, why)); });
  };
  if (wanted.prefix == "/") return refuse(Code::exists, "the volume / is there since the mesh was founded");
  if (state.volume_at(wanted.prefix) != nullptr) {
    return refuse(Code::exists, fmt::format("there is a volume at {} already", wanted.prefix));
  }
  if (Status may = state.may_create_volume(membership_.key(), wanted.prefix, {wanted.owner}); !may) {
    return refuse(may.error().code, to_text(may.error()));
  }
  const VolumeFacts* parent = state.volume_for(wanted.prefix);
  if (parent == nullptr) return refuse(Code::not_found, "the mesh has no root volume");
  auto creation = std::make_shared<Creation>();
  creation->wanted = wanted;
  creation->done = std::move(done);
  creation->parent = *parent;
  make_junction(creation);
}

void VolumeAdmin::make_junction(std::shared_ptr<Creation> creation) {
  AddVolume& charter = creation->charter;
  runtime_.random.fill(charter.id);
  charter.number = membership_.state().free_volume_number();
  charter.prefix = creation->wanted.prefix;
  charter.founders = {creation->wanted.owner};
  charter.parent = creation->parent.id;
  MakeJunction make{components_below(creation->parent.prefix, charter.prefix), {charter.id, charter.number}};
  volumes_.call(creation->parent.id, root_credentials(), make, {}, {kJunctionTimeout, nullptr},
                [this, creation](const VolumeAnswer& answer) {
                  Status made =
                      status_of(answer.reply, fmt::format("cannot make {} in the volume {}",
                                                          creation->wanted.prefix, creation->parent.prefix));
                  if (!made && made.error().code == Code::cross_volume)
                    return look_for_parent(creation, made.error());
                  if (!made) return creation->done(fail(made.error()));
                  // Of the directories from the root to the one the junction is in, the root itself is left
                  // out.
                  creation->charter.ancestors = answer.reply.parents;
                  auto& ancestors = creation->charter.ancestors;
                  if (!ancestors.empty() && ancestors.front() == kRootInode)
                    ancestors.erase(ancestors.begin());
                  make_charter(creation);
                });
}

// The way crosses another volume, which our register may not hold yet: it may have been made a moment ago.
void VolumeAdmin::look_for_parent(std::shared_ptr<Creation> creation, Error error) {
  membership_.refresh([this, creation, error](Status current) {
    const VolumeFacts* parent = membership_.state().volume_for(creation->wanted.prefix);
    if (!current || parent == nullptr || parent->id == creation->parent.id)
      return creation->done(fail(error));
    creation->parent = *parent;
    make_junction(creation);
  });
}

void VolumeAdmin::make_charter(std::shared_ptr<Creation> creation) {
  membership_.propose_change(creation->charter, [this, creation](Result<uint64_t> index) {
    // It may have been ordered all the same: a junction is not taken from a volume that is there. What the
    // register has no volume for, the parent's owner removes.
    if (!index && index.error().code == Code::unreachable) {
      return creation->done(
          fail(Code::unreachable,
               fmt::format("whether {} was made is not known: {}. Look with 'efs volume ls'; if it is not "
                           "there, try again in two minutes",
                           creation->wanted.prefix, to_text(index.error()))));
    }
    // Timed out: it was ordered, but has not come here yet.
    if (!index && index.error().code != Code::timed_out) return take_back(creation, index.error());
    creation->deadline_ns = runtime_.loop.clock().now_ns() + kAwaitAtMost;
    await_volume(creation);
  });
}

// Who asked finds the volume there.
void VolumeAdmin::await_volume(std::shared_ptr<Creation> creation) {
  auto again = [this, creation](const std::string& why) {
    if (runtime_.loop.clock().now_ns() > creation->deadline_ns) {
      return creation->done(
          fail(Code::timed_out, fmt::format("the volume {} is made, but its owner does not answer yet: {}",
                                            creation->wanted.prefix, why)));
    }
    runtime_.loop.after(kAwaitStep, [this, creation] { await_volume(creation); });
  };
  volumes_.call(creation->charter.id, root_credentials(), Usage{}, {}, {2 * kSecond, nullptr},
                [this, creation, again](const VolumeAnswer& answer) {
                  if (answer.reply.code == Code::ok) return finish(creation);
                  again(to_text(Error{answer.reply.code, answer.reply.message}));
                });
}

void VolumeAdmin::finish(std::shared_ptr<Creation> creation) {
  if (creation->wanted.policy.compression == Compression::none) return creation->done(creation->charter.id);
  set_policy(creation->wanted.prefix, creation->wanted.policy, [creation](Status set) {
    if (set) return creation->done(creation->charter.id);
    creation->done(fail(set.error().code, fmt::format("the volume {} is made, but {}. Try 'efs volume set'",
                                                      creation->wanted.prefix, to_text(set.error()))));
  });
}

void VolumeAdmin::set_policy(const std::string& prefix, const VolumePolicy& policy,
                             std::function<void(Status)> done) {
  const VolumeFacts* volume = membership_.state().volume_at(prefix);
  auto refuse = [&](Code code, std::string why) {
    runtime_.loop.post([done, code, why = std::move(why)] { done(fail(code, why)); });
  };
  if (volume == nullptr)
    return refuse(Code::not_found,
                  fmt::format("there is no volume at {}: 'efs volume ls' shows all", prefix));
  if (Status may = membership_.state().may_change_volume(membership_.key(), *volume); !may)
    return refuse(may.error().code, to_text(may.error()));
  volumes_.call(volume->id, root_credentials(), SetPolicy{policy}, {}, {kJunctionTimeout, nullptr},
                [done](const VolumeAnswer& answer) {
                  done(status_of(answer.reply, "the volume's settings cannot be changed"));
                });
}

void VolumeAdmin::take_back(std::shared_ptr<Creation> creation, Error error) {
  VolumeFacts made;
  made.id = creation->charter.id;
  made.prefix = creation->charter.prefix;
  made.parent = creation->parent.id;
  unlink_junction(made, [this, creation, error](Status) {
    const bool number_taken = membership_.state().volume_by_number(creation->charter.number) != nullptr;
    const bool prefix_taken = membership_.state().volume_at(creation->charter.prefix) != nullptr;
    if (number_taken && !prefix_taken && ++creation->tries < kNumberTries) return make_junction(creation);
    creation->done(fail(error));
  });
}

void VolumeAdmin::unlink_junction(const VolumeFacts& volume, std::function<void(Status)> done) {
  const VolumeFacts* parent = membership_.state().volume(volume.parent);
  if (parent == nullptr) return done(fail(Code::unreachable, "the volume above cannot be reached"));
  RemoveJunction remove{components_below(parent->prefix, volume.prefix), volume.id};
  volumes_.call(
      parent->id, root_credentials(), remove, {}, {kJunctionTimeout, nullptr},
      [done](const VolumeAnswer& answer) { done(status_of(answer.reply, "cannot remove the junction")); });
}

void VolumeAdmin::remove(const std::string& prefix, std::function<void(Status)> done) {
  const VolumeFacts* found = membership_.state().volume_at(prefix);
  auto refuse = [&](Code code, std::string why) {
    runtime_.loop.post([done, code, why = std::move(why)] { done(fail(code, why)); });
  };
  if (found == nullptr) return refuse(Code::not_found, fmt::format("there is no volume at {}", prefix));
  if (found->number == kRootVolume) return refuse(Code::not_permitted, "the volume / cannot be removed");
  if (!membership_.state().volumes_below(prefix).empty()) {
    return refuse(Code::not_empty, fmt::format("there are volumes below {}: remove them first", prefix));
  }
  if (Status may = membership_.state().may_remove_volume(membership_.key(), *found); !may) {
    return refuse(may.error().code, to_text(may.error()));
  }
  const VolumeFacts volume = *found;
  auto dropped = [this, volume, done](Status drop) {
    if (!drop) return done(fail(drop.error()));
    membership_.propose_change(RemoveVolume{volume.id}, [this, volume, done](Result<uint64_t> index) {
      if (!index) return done(fail(index.error()));
      unlink_junction(volume, done);
    });
  };
  if (volume.owners.empty() || volume.owners.front() == self_)
    return dropped(volumes_.close_for_removal(volume.id));
  rpc_.call(volume.owners.front(), kDropVolume, encode(DropVolume{volume.id}), {},
            {kDropTimeout, Priority::normal},
            [dropped](Result<Answer> answer) { answer ? dropped({}) : dropped(fail(answer.error())); });
}

void VolumeAdmin::serve() {
  rpc_.handle(kDropVolume, Access::admitted,
              [this](const Caller& caller, Bytes body, SharedBytes, Responder respond) {
                auto drop = decode<DropVolume>(body);
                if (!drop) return respond.fail(drop.error());
                const VolumeFacts* volume = membership_.state().volume(drop->volume);
                if (volume == nullptr)
                  return respond.fail({Code::not_found, "the register has no such volume"});
                if (Status may = membership_.state().may_remove_volume(caller.key, *volume); !may)
                  return respond.fail(may.error());
                Status closed = volumes_.close_for_removal(drop->volume);
                closed ? respond.answer({}) : respond.fail(closed.error());
              });
}

}  // namespace efs
