#include "peer/runtime/simulated_names.h"

#include <algorithm>
#include <set>
#include <utility>

namespace efs {

namespace {

// The kernel commits on its own as well, so that the journal has a bound.
constexpr size_t kChangesWaiting = 4096;

std::vector<std::string> components(const std::string& path) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin < path.size();) {
    size_t end = std::min(path.find('/', begin), path.size());
    std::string part = path.substr(begin, end - begin);
    if (!part.empty() && part != ".") parts.push_back(std::move(part));
    begin = end + 1;
  }
  return parts;
}

using NameKey = std::pair<const SimulatedNode*, std::string>;  // for lookup only: addresses order nothing

}  // namespace

SimulatedNames::SimulatedNames() : root_(std::make_shared<SimulatedNode>(true, used_pages_)) {}

Result<SimulatedNames::Place> SimulatedNames::find(const std::string& path) const {
  Place place{nullptr, "", root_};
  for (std::string& part : components(path)) {
    if (part == "..") return fail(Code::invalid_argument, path + ": .. is not for simulated disks");
    if (!place.node) return fail(Code::not_found, path + ": no such file or directory");
    if (!place.node->directory) return fail(Code::not_directory, path + ": not a directory");
    auto found = place.node->entries.find(part);
    Ref next = found == place.node->entries.end() ? nullptr : found->second;
    place = Place{place.node, std::move(part), next};
  }
  return place;
}

Status SimulatedNames::make_directories(const std::string& path) {
  Ref node = root_;
  for (const std::string& part : components(path)) {
    Ref& next = node->entries[part];
    if (!next) {
      next = std::make_shared<SimulatedNode>(true, used_pages_);
      change({{node, part, next}});
    }
    if (!next->directory) return fail(Code::not_directory, path + ": not a directory");
    node = next;
  }
  return {};
}

SimulatedNames::Ref SimulatedNames::create(const Place& place) {
  auto node = std::make_shared<SimulatedNode>(false, used_pages_);
  place.directory->entries[place.name] = node;
  change({{place.directory, place.name, node}});
  return node;
}

Status SimulatedNames::remove(const Place& place) {
  if (!place.directory) return fail(Code::busy, "the root stays");
  if (!place.node->entries.empty()) return fail(Code::not_empty);
  place.directory->entries.erase(place.name);
  change({{place.directory, place.name, nullptr}});
  return {};
}

Status SimulatedNames::rename(const Place& from, const Place& to) {
  if (!from.directory || !to.directory) return fail(Code::busy, "the root stays");
  if (from.node == to.node) return {};
  if (to.node && to.node->directory && !from.node->directory) return fail(Code::is_directory);
  if (to.node && !to.node->directory && from.node->directory) return fail(Code::not_directory);
  if (to.node && !to.node->entries.empty()) return fail(Code::not_empty);
  from.directory->entries.erase(from.name);
  to.directory->entries[to.name] = from.node;
  change({{from.directory, from.name, nullptr}, {to.directory, to.name, from.node}});
  return {};
}

void SimulatedNames::change(std::vector<Effect> effects) {
  waiting_.push_back({std::move(effects), false});
  if (waiting_.size() <= kChangesWaiting) return;
  for (size_t i = 0; i < kChangesWaiting / 2; ++i) waiting_[i].commit = true;
  commit_marked();
}

void SimulatedNames::sync_directory(const SimulatedNode& directory) {
  std::set<NameKey> names;
  for (auto change = waiting_.rbegin(); change != waiting_.rend(); ++change) {
    const auto& effects = change->effects;
    change->commit = effects.back().directory.get() == &directory ||
                     std::any_of(effects.begin(), effects.end(), [&](const Effect& effect) {
                       return names.count({effect.directory.get(), effect.name}) != 0;
                     });
    if (!change->commit) continue;
    for (const Effect& effect : effects) names.insert({effect.directory.get(), effect.name});
  }
  commit_marked();
}

void SimulatedNames::sync_all() {
  for (Change& change : waiting_) change.commit = true;
  commit_marked();
}

void SimulatedNames::commit_marked() {
  std::vector<Change> rest;
  for (Change& change : waiting_) {
    if (!change.commit) {
      rest.push_back(std::move(change));
      continue;
    }
    for (const Effect& effect : change.effects) {
      if (effect.node) {
        effect.directory->synced_entries[effect.name] = effect.node;
      } else {
        effect.directory->synced_entries.erase(effect.name);
      }
    }
  }
  waiting_ = std::move(rest);
}

void SimulatedNames::power_loss(Random& random) {
  std::set<NameKey> lost;
  for (Change& change : waiting_) {
    const auto& effects = change.effects;
    change.commit =
        random.below(2) == 0 && std::none_of(effects.begin(), effects.end(), [&](const Effect& effect) {
          return lost.count({effect.directory.get(), effect.name}) != 0;
        });
    if (change.commit) continue;
    for (const Effect& effect : effects) lost.insert({effect.directory.get(), effect.name});
  }
  commit_marked();
  waiting_.clear();
  std::vector<SimulatedNode*> visited;
  visit(*root_, random, visited);
  for (SimulatedNode* node : visited) node->visited = false;
}

void SimulatedNames::visit(SimulatedNode& node, Random& random, std::vector<SimulatedNode*>& visited) {
  if (std::exchange(node.visited, true)) return;
  visited.push_back(&node);
  if (node.directory) {
    node.entries = node.synced_entries;
    for (auto& [name, child] : node.entries) visit(*child, random, visited);
    return;
  }
  used_pages_ -= node.content.pages();
  node.content.power_loss(random);
  used_pages_ += node.content.pages();
}

}  // namespace efs
