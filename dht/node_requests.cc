// What a Node answers to others. Everything here comes from outside: decode_request() has bound its size.
#include "dht/node.h"

namespace efs::dht {

Bytes Node::on_request(const Id& from, ByteView message, Instant now) {
  ++stats_.received;
  auto refuse = [&](Code code) {
    ++stats_.refused_requests;
    return encode(Answer(Refused{uint16_t(code)}));
  };
  if (from == config_.self.id || !admitted(from)) return refuse(Code::unauthorized);
  if (!spend(from, 1, now)) return refuse(Code::overloaded);
  auto request = decode_request(message);
  if (!request) return refuse(request.error().code);
  const size_t items = std::visit(
      [](const auto& body) -> size_t {
        if constexpr (requires { body.records; }) return body.records.size();
        if constexpr (requires { body.names; }) return body.names.size();
        return 0;
      },
      request->body);
  if (!spend(from, double(items) / 8, now)) return refuse(Code::overloaded);
  if (!request->address.empty()) alive({from, request->address}, now);
  auto result = encode(std::visit([&](const auto& body) { return answer(from, body, now); }, request->body));
  flush();
  return result;
}

Answer Node::answer(const Id&, const Ping&, Instant) {
  return Pong{};
}

Answer Node::answer(const Id& from, const FindNode& find, Instant) {
  return Nodes{neighbours_for(from, find.target)};
}

Answer Node::answer(const Id& from, const FindValue& find, Instant now) {
  Found found;
  found.record = holdings_.get(find.key, now);
  if (!found.record && !find.fresh) {
    auto cached = cache_.find(find.key);
    if (cached != cache_.end() && cached->second.until_ns > now.now_ns) found.record = cached->second.record;
  }
  if (!found.record) found.contacts = neighbours_for(from, find.key);
  return found;
}

std::vector<Contact> Node::neighbours_for(const Id& asker, const Id& target) const {
  auto contacts = table_.closest(target, kReplicas + 1);
  std::erase_if(contacts, [&](const auto& contact) { return contact.id == asker; });
  if (contacts.size() > kReplicas) contacts.pop_back();
  return contacts;
}

Answer Node::answer(const Id&, const Store& store, Instant now) {
  Stored stored;
  for (const auto& record : store.records) {
    Status status = fail(Code::unsupported);  // who cannot be dialled holds nothing for others
    if (!config_.self.address.empty())
      status = store.cache ? cache(record, now) : holdings_.accept(record, false, now, next_due_ns(now));
    const Code code = status ? Code::ok : status.error().code;
    if (code != Code::ok && code != Code::conflict) ++stats_.refused_records;
    stored.codes.push_back(uint16_t(code));
  }
  return stored;
}

Answer Node::answer(const Id&, const Offer& offer, Instant now) {
  Wanted wanted;
  size_t bytes = 0;
  if (config_.self.address.empty()) return wanted;
  for (const auto& name : offer.names) {
    const auto* held = holdings_.find(name.key, now);
    if (held == nullptr || held->name.version < name.version) {
      wanted.keys.push_back(name.key);
    } else if (held->name.version > name.version) {
      if (wanted.newer.size() >= kMaxBatchRecords || bytes + held->body_bytes > kMaxBatchBytes) continue;
      if (auto record = holdings_.get(name.key, now)) {
        bytes += record->body.size();
        wanted.newer.push_back(*std::move(record));
      }
    } else if (held->name.sum != name.sum) {
      wanted.keys.push_back(name.key);  // the rule of supersedes() decides, at both ends alike
    } else if (!held->own) {
      // Somebody has just looked after this record. Its publisher goes on doing so whatever others say.
      holdings_.set_due(name.key, next_due_ns(now));
    }
  }
  return wanted;
}

// A bucket of tokens a sender; senders that have been quiet are forgotten by the sweep.
bool Node::spend(const Id& sender, double tokens, Instant now) {
  auto at = senders_.find(sender);
  if (at == senders_.end()) {
    if (senders_.size() >= kMaxSenders) return false;
    at = senders_.emplace(sender, Sender{kSenderBurst, now.now_ns}).first;
  }
  auto& account = at->second;
  const double elapsed_seconds = double(now.now_ns - account.updated_ns) / double(kSecond);
  account.tokens = std::min(kSenderBurst, account.tokens + elapsed_seconds * kSenderRate);
  account.updated_ns = now.now_ns;
  if (account.tokens < tokens) return false;
  account.tokens -= tokens;
  return true;
}

Status Node::cache(const Record& record, Instant now) {
  EFS_TRY(holdings_.check(record, now));
  auto at = cache_.find(record.key);
  if (at != cache_.end() && supersedes(at->second.record, record)) return fail(Code::conflict);
  if (at == cache_.end() && cache_.size() >= kMaxCached) return fail(Code::overloaded);
  cache_[record.key] = {record, now.now_ns + kCacheTime};
  return {};
}

}  // namespace efs::dht
