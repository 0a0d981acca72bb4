#include "dht/messages.h"

namespace efs::dht {

namespace {
constexpr DecodeLimits kDecodeLimits{.bytes = kMaxMessageBytes, .elements = 4096, .depth = 8};

bool within(const std::vector<Record>& records, size_t count) {
  size_t bytes = 0;
  for (const auto& record : records) {
    if (record.body.size() > kMaxRecordBytes) return false;
    bytes += record.body.size();
  }
  return records.size() <= count && bytes <= kMaxBatchBytes;
}
bool within(const std::vector<Contact>& contacts) {
  return contacts.size() <= kReplicas &&
         std::all_of(contacts.begin(), contacts.end(),
                     [](const auto& contact) { return contact.address.size() <= kMaxAddressBytes; });
}

bool within(const Ping&) {
  return true;
}
bool within(const FindNode&) {
  return true;
}
bool within(const FindValue&) {
  return true;
}
bool within(const Store& store) {
  // One record that is over its own limit is refused by name, not by silence: the checks of a record follow.
  return store.records.size() == 1 || within(store.records, kMaxBatchRecords);
}
bool within(const Offer& offer) {
  return offer.names.size() <= kMaxOffers;
}
bool within(const Pong&) {
  return true;
}
bool within(const Nodes& nodes) {
  return within(nodes.contacts);
}
bool within(const Found& found) {
  return within(found.contacts) && (!found.record || found.record->body.size() <= kMaxRecordBytes);
}
bool within(const Stored& stored) {
  return stored.codes.size() <= kMaxBatchRecords;
}
bool within(const Wanted& wanted) {
  return wanted.keys.size() <= kMaxOffers && within(wanted.newer, kMaxBatchRecords);
}
bool within(const Refused&) {
  return true;
}
}  // namespace

bool valid(const Contact& contact) {
  return contact.id != Id{} && !contact.address.empty() && contact.address.size() <= kMaxAddressBytes;
}

bool supersedes(const Record& a, const Record& b) {
  if (a.version != b.version) return a.version > b.version;
  if (a.removed != b.removed) return a.removed;
  return a.body > b.body;
}

Result<Request> decode_request(ByteView bytes) {
  EFS_ASSIGN(Request request, decode<Request>(bytes, kDecodeLimits));
  const bool fits = request.address.size() <= kMaxAddressBytes &&
                    std::visit([](const auto& body) { return within(body); }, request.body);
  if (!fits) return fail(Code::too_large, "a DHT request is over its limits");
  return request;
}

Result<Answer> decode_answer(ByteView bytes) {
  EFS_ASSIGN(Answer answer, decode<Answer>(bytes, kDecodeLimits));
  if (!std::visit([](const auto& body) { return within(body); }, answer))
    return fail(Code::too_large, "a DHT answer is over its limits");
  return answer;
}

}  // namespace efs::dht
