#include "peer/identity/record.h"

#include <fmt/format.h>

#include "peer/identity/prefix.h"
#include "peer/identity/register_internal.h"
#include "peer/identity/time_text.h"

namespace efs {

namespace {
constexpr DecodeLimits kRecordLimits{.bytes = kMaxRecordBytes, .elements = 1024, .depth = kMaxDepth};
constexpr size_t kMaxVersionBytes = 64;

Id hashed_key(std::string_view type, ByteView name) {
  Bytes bytes = to_bytes(view(type));
  bytes.push_back(0);
  append(bytes, name);
  return blake2b(bytes);
}

// "the record of /volume01": for messages.
std::string name_of(const RecordBody& body) {
  if (const auto* owners = std::get_if<OwnerRecord>(&body)) return "the record of " + owners->prefix;
  if (const auto* user = std::get_if<UserRecord>(&body)) return "the record of user " + user->name;
  return "the record of peer " + short_hex(std::get<PeerRecord>(body).id);
}

Status check_shape(const OwnerRecord& body) {
  EFS_TRY(check_prefix(body.prefix));
  if (body.owners.empty() || body.owners.size() > kMaxOwners || body.epoch > UINT32_MAX)
    return fail(Code::protocol, "a record of owners without owners, or with too many");
  return check_addresses(body.addresses);
}
Status check_shape(const UserRecord& body) {
  EFS_TRY(check_user_name(body.name, "user"));
  if (body.owners.size() > kMaxOwners) return fail(Code::protocol, "a user's record with too many owners");
  return check_prefix(body.home);
}
Status check_shape(const PeerRecord& body) {
  if (body.stores.size() > kMaxStores || body.version.size() > kMaxVersionBytes)
    return fail(Code::protocol, "a peer's record with too many stores, or too long a version");
  for (const StoreSpace& store : body.stores) {
    if (store.directory.size() > kMaxPrefixBytes)
      return fail(Code::protocol, "a peer's record with a store's too long name");
  }
  return check_addresses(body.addresses);
}

struct Opened {
  Envelope envelope;
  LocatorRecord record;
};

Result<Opened> open_record(ByteView bytes) {
  if (bytes.size() > kMaxRecordBytes)
    return fail(Code::too_large,
                fmt::format("a record of {} bytes is over the limit of {}", bytes.size(), kMaxRecordBytes));
  auto envelope = decode<Envelope>(bytes, kRecordLimits);
  if (!envelope) return fail(Code::protocol, "a record cannot be read: it is damaged");
  auto record = decode<LocatorRecord>(envelope->body, kRecordLimits);
  if (record ? record->format != 1 : record.error().code == Code::version)
    return fail(Code::version,
                "a record has a format or type that this program does not know; install a newer efs");
  if (!record) return fail(Code::protocol, "a record cannot be read: it is damaged");
  auto shape = std::visit([](const auto& body) { return check_shape(body); }, record->body);
  if (!shape) return fail(Code::protocol, "a record has an impossible content: " + to_text(shape.error()));
  return Opened{std::move(*envelope), std::move(*record)};
}

Status check_times(const LocatorRecord& record, int64_t wall_ns) {
  const auto fails = [&](std::string_view why) {
    return fail(Code::expired, fmt::format("{} {}", name_of(record.body), why));
  };
  if (record.made_ns < 0 || record.made_ns > kMaxStampNs || record.expires_ns < record.made_ns ||
      record.expires_ns - record.made_ns > kMaxRecordLifeNs)
    return fails("has an impossible life");
  if (record.expires_ns <= wall_ns) return fails("ended at " + utc_text(record.expires_ns));
  if (record.made_ns - kMaxClockDifferenceNs > wall_ns)
    return fails(fmt::format("was made at {}, which has not come yet; set the clock of its publisher",
                             utc_text(record.made_ns)));
  return {};
}

// May this key publish it? One answer a type: the peer whose key it is.
struct Publisher {
  const RegisterState& state;
  const LocatorRecord& record;
  const PublicKey& signer;

  // The signer, when it is one of `owners`; `what` they own.
  Result<PeerId> one_of(const std::vector<PeerId>& owners, std::string_view what) const {
    const PeerFacts* peer = state.peer_by_key(signer);
    if (peer != nullptr && contains(owners, peer->id)) return peer->id;
    return fail(Code::unauthorized, fmt::format("{} is signed by {}, which does not own {}",
                                                name_of(record.body), state.who_is(signer), what));
  }

  Status check_owners(const VolumeFacts& volume, uint64_t epoch, const std::vector<PeerId>& said,
                      const std::vector<EpochLink>& links) const {
    if (epoch < volume.epoch)
      return fail(Code::stale, fmt::format("{} is of epoch {}, and the register knows epoch {}",
                                           name_of(record.body), epoch, volume.epoch));
    EFS_ASSIGN(auto owners, state.owners_at(volume, epoch, links));
    if (owners == said) return {};
    return fail(Code::unauthorized, fmt::format("{} names other owners than its history of signatures does",
                                                name_of(record.body)));
  }

  Result<PeerId> operator()(const OwnerRecord& body) const {
    if (record.version >> 32 != body.epoch)
      return fail(Code::protocol, fmt::format("{} has a version of another epoch", name_of(record.body)));
    const VolumeFacts* volume = state.volume(body.volume);
    if (volume == nullptr || volume->prefix != body.prefix)
      return fail(Code::not_found,
                  fmt::format("{} is of a volume that the register does not know", name_of(record.body)));
    EFS_ASSIGN(PeerId publisher, one_of(body.owners, body.prefix));
    EFS_TRY(check_owners(*volume, body.epoch, body.owners, body.links));
    return publisher;
  }

  Result<PeerId> operator()(const UserRecord& body) const {
    const UserFacts* user = state.user(body.name);
    if (user == nullptr)
      return fail(Code::not_found,
                  fmt::format("{} is of a user that the register does not know", name_of(record.body)));
    if (user->home != body.home || user->entry != body.entry)
      return fail(Code::stale,
                  fmt::format("{} is not what the register says of that user", name_of(record.body)));
    const VolumeFacts* volume = state.volume_for(body.home);
    if (volume == nullptr)
      return fail(Code::not_found, fmt::format("{} lies in no volume of the register", name_of(record.body)));
    EFS_ASSIGN(PeerId publisher, one_of(body.owners, volume->prefix));
    EFS_TRY(check_owners(*volume, body.epoch, body.owners, body.links));
    return publisher;
  }

  Result<PeerId> operator()(const PeerRecord& body) const {
    const PeerFacts* peer = state.peer(body.id);
    if (peer == nullptr)
      return fail(Code::not_found,
                  fmt::format("{} is of a peer that the register does not know", name_of(record.body)));
    if (peer->standing != Standing::admitted || peer->key != signer)
      return fail(Code::unauthorized,
                  fmt::format("{} is signed by {}", name_of(record.body), state.who_is(signer)));
    return peer->id;
  }
};

Status check_supersedes(const LocatorRecord& record, ByteView bytes, ByteView held) {
  auto before = read_record(held);
  if (!before || before->version < record.version ||
      std::equal(bytes.begin(), bytes.end(), held.begin(), held.end()))
    return {};
  return fail(Code::conflict, fmt::format("{} has version {}, and version {} is known", name_of(record.body),
                                          record.version, before->version));
}
}  // namespace

Id prefix_key(std::string_view prefix) {
  return hashed_key("prefix", view(prefix));
}
Id user_key(std::string_view name) {
  return hashed_key("user", view(name));
}
Id peer_key(const PeerId& id) {
  return hashed_key("peer", id);
}
Id key_of(const RecordBody& body) {
  if (const auto* owners = std::get_if<OwnerRecord>(&body)) return prefix_key(owners->prefix);
  if (const auto* user = std::get_if<UserRecord>(&body)) return user_key(user->name);
  return peer_key(std::get<PeerRecord>(body).id);
}

Bytes sign_record(const Id& mesh, const LocatorRecord& record, const KeyPair& publisher) {
  return encode(seal(kRecordDomain, mesh, encode(record), publisher));
}

Result<LocatorRecord> read_record(ByteView bytes) {
  EFS_ASSIGN(auto opened, open_record(bytes));
  return std::move(opened.record);
}

Result<CheckedRecord> check_record(const Id& key, ByteView bytes, const RegisterState& state, int64_t wall_ns,
                                   std::optional<ByteView> held) {
  EFS_ASSIGN(auto opened, open_record(bytes));
  const LocatorRecord& record = opened.record;
  if (key_of(record.body) != key)
    return fail(Code::protocol, fmt::format("{} lies under a foreign key", name_of(record.body)));
  EFS_TRY(check_times(record, wall_ns));
  if (held) EFS_TRY(check_supersedes(record, bytes, *held));
  if (!is_authentic(kRecordDomain, state.mesh(), opened.envelope))
    return fail(Code::unauthorized,
                fmt::format("{} is forged: its signature is wrong", name_of(record.body)));
  EFS_ASSIGN(PeerId publisher, std::visit(Publisher{state, record, opened.envelope.signer}, record.body));
  return CheckedRecord{std::move(opened.record), publisher};
}

Bytes make_epoch_body(const Id& volume, uint64_t epoch, std::vector<PeerId> owners) {
  return encode(EpochBody{volume, epoch, std::move(owners)});
}

OwnerSignature sign_epoch(const Id& mesh, ByteView epoch_body, const KeyPair& owner) {
  return {owner.public_key(), sign_in_mesh(kEpochDomain, mesh, epoch_body, owner)};
}

}  // namespace efs
