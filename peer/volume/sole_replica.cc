// A change: prepare (hash and store large bytes, no lock), then under the apply lock stamp, apply in a
// transaction, log, commit; then sync when the promise asks. A failure anywhere drops the transaction, and
// nothing of it was logged. A sync that fails stops the volume's changes until the peer starts again: what
// the kernel did with the pages is not known any more.
#include "peer/volume/sole_replica.h"

#include <unistd.h>

#include <algorithm>

#include "peer/base/hash.h"
#include "peer/volume/pins.h"
#include "peer/volume/session_trust.h"
#include "peer/volume/state/view.h"
#include "peer/volume/xattr_names.h"

namespace efs {

namespace {
constexpr int64_t kDamageReportInterval = 10 * kSecond;
constexpr uint64_t kLoggedBetweenLooks = 8 << 20;  // at the free space of the disk
constexpr uint64_t kInodeBytes = 512;              // of metadata that an inode takes, about
constexpr size_t kClosedInline = 256;              // files, each of which may be freed by that
constexpr int kReadAttempts = 4;  // chunks may be replaced and freed between the plan and the read

// Whose bytes, size or mode the answer depends on: what others have buffered of it is to be here first.
Leases::Inodes asks_about(const RequestBody& body) {
  return std::visit(
      [](const auto& one) -> Leases::Inodes {
        using Body = std::decay_t<decltype(one)>;
        if constexpr (std::is_same_v<Body, CopyRange>) return {one.inode, one.from};
        if constexpr (std::is_same_v<Body, Open>) {
          if (one.want == 0) return {};  // its answer is for holding it
        }
        if constexpr (std::is_same_v<Body, GetXattr> || std::is_same_v<Body, SetXattr> ||
                      std::is_same_v<Body, RemoveXattr>) {
          if (is_acl(one.name)) return {one.inode, 0};  // the mode is a part of it
        }
        if constexpr (std::is_same_v<Body, GetAttributes> || std::is_same_v<Body, Open> ||
                      std::is_same_v<Body, Read> || std::is_same_v<Body, SeekData> ||
                      std::is_same_v<Body, Layout> || std::is_same_v<Body, SetAttributes> ||
                      std::is_same_v<Body, Write> || std::is_same_v<Body, WriteScattered> ||
                      std::is_same_v<Body, Allocate> || std::is_same_v<Body, Sync>) {
          return {one.inode, 0};
        }
        return {};
      },
      body);
}

// Whether a kernel keeps pages locked until it is answered.
bool locks_pages(const RequestBody& body) {
  return std::holds_alternative<Read>(body) || std::holds_alternative<Write>(body) ||
         std::holds_alternative<WriteScattered>(body);
}

bool wants_to_write(const RequestBody& body, const Reply& reply) {
  if (const auto* open = std::get_if<Open>(&body)) return (open->want & W_OK) != 0;
  if (const auto* create = std::get_if<Create>(&body)) return create->open && reply.created;
  return std::holds_alternative<Write>(body) || std::holds_alternative<WriteScattered>(body);
}
}  // namespace

SoleReplica::SoleReplica(const ReplicaParts& parts, std::unique_ptr<MetaStore> rows)
    : parts_(parts),
      rows_(std::move(rows)),
      search_(parts.clock.now_ns()),
      leases_(std::make_shared<Leases>(parts.random.u64() >> 1)) {}
SoleReplica::~SoleReplica() = default;

// What others may have buffered is called back first; what they may believe is called back after. What waits
// for that keeps this replica.
void SoleReplica::execute(const Request& request, Payload payload, Done done) {
  requests_.fetch_add(1, std::memory_order_relaxed);
  if (concerns_locks(request.body)) return execute_lock(request, std::move(done));
  if (!changes(request.body)) {
    if (auto out = look(request, false)) return done(std::move(*out));
    return after_taking_back(request, asks_about(request.body), {}, std::move(done));
  }
  const Leases::Inodes about = asks_about(request.body);
  if (waits_for_late_ones(request, about)) {
    const Leases::Then then = again(request, std::move(payload), std::move(done));
    if (!leases_->after_hold(then)) then();
    return;
  }
  if (owned_elsewhere(request, about))
    return after_taking_back(request, about, std::move(payload), std::move(done));
  Changes changed;
  VolumeAnswer out;
  if (about[0] == 0 || leases_->alone(request.session)) {
    out = answer_change(request, std::move(payload), changed);
  } else {
    if (!leases_->begin_change(request.session, about))
      return after_taking_back(request, about, std::move(payload), std::move(done));
    out = answer_change(request, std::move(payload), changed);
    if (out.reply.code == Code::ok) leases_->note_bytes(about[0], parts_.clock.now_ns());
    leases_->end_change(request.session, about);
  }
  out = finished(request, std::move(out));
  if (changed.repeated && !leases_->alone(request.session)) {
    auto answered = std::make_shared<VolumeAnswer>(std::move(out));
    const Leases::Then join = [this, self = weak_from_this().lock(), answered, session = request.session,
                               done = std::move(done)] {
      leases_->join(session, [this, self, answered, session, done] {
        if (stopped_for(session)) answered->reply = error_reply(Code::not_owner);
        done(std::move(*answered));
      });
    };
    // It was perhaps made before a restart: others may believe otherwise that nobody here knows.
    if (!leases_->after_hold(join)) join();
    return;
  }
  if (changed.rows.empty() || leases_->alone(request.session)) return done(std::move(out));
  auto kept = std::make_shared<std::pair<VolumeAnswer, Changes>>(std::move(out), std::move(changed));
  Leases::Then all;
  if (!kept->second.presumed.empty())
    all = [this, self = weak_from_this().lock(), kept] { release_presumed(kept->second); };
  Leases::News news = std::move(kept->second.news);
  leases_->announce(
      request.session, kept->second.rows,
      [this, self = weak_from_this().lock(), kept, session = request.session, done = std::move(done)] {
        if (stopped_for(session)) kept->first = {error_reply(Code::not_owner), {}};
        done(std::move(kept->first));
      },
      std::move(all), std::move(news));
}

// What asks, and changes nothing. Nothing: others have buffered what the answer depends on.
std::optional<VolumeAnswer> SoleReplica::look(const Request& request, bool cached) {
  const Leases::Inodes about = asks_about(request.body);
  if (owned_elsewhere(request, about)) return std::nullopt;
  VolumeAnswer out = request.leases ? answer_leased(request, cached) : answer(request, cached);
  // Somebody else was given it meanwhile: what this says is not leased, and perhaps not the last word. (What
  // was written since a Sync came is not its concern.)
  if (request.leases && out.reply.code == Code::ok && (out.reply.lease & kLeaseInode) == 0 &&
      !std::holds_alternative<Sync>(request.body) && owned_elsewhere(request, about))
    return std::nullopt;
  if (out.reply.code == Code::corrupt) report_damage(out.reply);
  return finished(request, std::move(out));
}

VolumeAnswer SoleReplica::finished(const Request& request, VolumeAnswer answer) {
  identify(request.session, answer.reply, std::holds_alternative<Hello>(request.body));
  return answer;
}

void SoleReplica::identify(const SessionId& session, Reply& reply, bool greeted) const {
  reply.verifier = verifier_;
  // Whatever a mount first hears of a new run by.
  if (greeted || reply.code == Code::recalled || reply.code == Code::expired) {
    reply.verifier_before = verifier_before_;
    reply.recovered = recovered_index_;
  }
  reply.durable = durable_index_.load();
  reply.logged = rows_->applied_index();
  reply.leases_lost = leases_->lost(session);
}

std::optional<VolumeAnswer> SoleReplica::read_cached(const Request& request) {
  auto out = look(request, true);
  if (!out || out->reply.code == Code::uncached) return std::nullopt;
  requests_.fetch_add(1, std::memory_order_relaxed);
  return out;
}

// After a restart whoever had an answer before may repeat what it had changed: that comes before anything
// new.
bool SoleReplica::waits_for_late_ones(const Request& request, const Leases::Inodes& about) const {
  return leases_->held_back() && about[0] != 0 && changes(request.body) &&
         (!request.late || is_own_session(request.session));
}

bool SoleReplica::owned_elsewhere(const Request& request, const Leases::Inodes& about) const {
  return std::any_of(about.begin(), about.end(), [&](InodeNumber inode) {
    return inode != 0 && leases_->owned_elsewhere(request.session, inode);
  });
}

// What others may have buffered of it is called back first.
void SoleReplica::after_taking_back(const Request& request, const Leases::Inodes& about, Payload payload,
                                    Done done) {
  if (leases_->closed()) return done({error_reply(Code::not_owner), {}});
  std::vector<InodeNumber> taken;
  for (InodeNumber inode : about) {
    if (inode != 0 && leases_->owned_elsewhere(request.session, inode)) taken.push_back(inode);
  }
  OpenTable::Wait wait;
  if (std::holds_alternative<Open>(request.body)) {
    std::lock_guard lock(open_mutex_);
    wait = open_.wait(request.session, about[0]);
  }
  leases_->take_back(request.session, taken, locks_pages(request.body),
                     again(request, std::move(payload), std::move(done), std::move(wait)));
}

// What has waited is executed as if it came only now; by an owner that stops meanwhile not at all. What it
// has waited for is mostly heard on a loop.
Leases::Then SoleReplica::again(const Request& request, Payload payload, Done done, OpenTable::Wait wait) {
  const size_t bytes_sent = payload.size();
  auto kept =
      std::make_shared<std::tuple<Request, Payload, Done>>(request, std::move(payload), std::move(done));
  Leases::Then run = [this, self = weak_from_this().lock(), kept, wait = std::move(wait)] {
    auto& [asked, bytes, answered] = *kept;
    if (leases_->closed()) return answered({error_reply(Code::not_owner), {}});
    if (wait && closed_meanwhile(asked, wait)) return answered({error_reply(Code::cancelled), {}});
    // What was written since it came is not its concern.
    if (std::holds_alternative<Sync>(asked.body)) return answered(finished(asked, answer(asked, false)));
    execute(asked, std::move(bytes), std::move(answered));
  };
  return [this, kept, bytes_sent, run = std::move(run)] {
    const RequestBody& body = std::get<Request>(*kept).body;
    if (parts_.run_apart && !executes_inline(body, bytes_sent)) return parts_.run_apart(run);
    run();
  };
}

bool SoleReplica::closed_meanwhile(const Request& request, const OpenTable::Wait& wait) {
  std::lock_guard lock(open_mutex_);
  return open_.end_wait(request.session, std::get<Open>(request.body).inode, wait);
}

// What was read is what is leased: nothing changed from before the look until the lease was noted.
VolumeAnswer SoleReplica::answer_leased(const Request& request, bool cached) {
  for (int attempt = 0;; ++attempt) {
    const uint64_t index = rows_->applied_index();
    VolumeAnswer out = answer(request, cached);
    const bool granted = grant(request, out.reply);
    const bool unchanged = rows_->applied_index() == index;
    const auto* lookup = std::get_if<Lookup>(&request.body);
    if (lookup != nullptr && unchanged) leases_->looked_up(request.session, lookup->parent, lookup->name);
    if (!granted || unchanged) return out;
    if (attempt + 1 < kReadAttempts) continue;
    out.reply.lease = 0;
    return out;
  }
}

void SoleReplica::report_damage(const Reply& reply) {
  damaged_ = true;
  const int64_t now_ns = parts_.clock.now_ns();
  if (now_ns < next_damage_report_ns_.load()) return;
  next_damage_report_ns_ = now_ns + kDamageReportInterval;
  parts_.logger.error("volume {}: {}; 'efs-peer check' on the stopped peer tells more", charter_.number,
                      to_text(Error{reply.code, reply.message}));
}

bool SoleReplica::executes_inline(const RequestBody& body, size_t payload_bytes) const {
  if (rows_->dirty_bytes() > kMaxDirtyBytes) return false;
  if (const auto* write = std::get_if<Write>(&body)) return !write->durable && payload_bytes <= most_inline();
  if (const auto* hello = std::get_if<Hello>(&body)) return hello->open.empty();  // it may come to a sync
  if (const auto* close = std::get_if<Close>(&body)) return close->inodes.size() <= kClosedInline;
  if (std::holds_alternative<Goodbye>(body)) return false;  // it ends with all that it has open
  return !(std::holds_alternative<Read>(body) || std::holds_alternative<Sync>(body) ||
           std::holds_alternative<WriteScattered>(body) || std::holds_alternative<MakeJunction>(body) ||
           std::holds_alternative<RemoveJunction>(body) || std::holds_alternative<AppendRegister>(body) ||
           std::holds_alternative<SetPolicy>(body) || takes_steps(body));
}

void SoleReplica::retire() {
  locks_.close(Code::not_owner);
  std::scoped_lock lock(compact_mutex_, checkpoint_mutex_, apply_mutex_);
  retired_ = true;
  failed_ = true;
  pause_.notify_all();
}

// This replica serves no more, or is asked before the session has said what it holds.
std::optional<Reply> SoleReplica::refused(const Request& request) {
  if (retired_.load()) return error_reply(Code::not_owner);
  if (is_own_session(request.session)) return std::nullopt;
  std::lock_guard lock(open_mutex_);
  open_.heard(request.session, parts_.clock.now_ns());
  const auto* hello = std::get_if<Hello>(&request.body);
  const bool greets = (hello != nullptr && !hello->renew) || std::holds_alternative<Goodbye>(request.body);
  if (greets || open_.greeted(request.session)) return std::nullopt;
  const bool gone = changes(request.body) && !open_.known(request.session);
  return error_reply(gone ? Code::expired : Code::recalled);
}

VolumeAnswer SoleReplica::answer_change(const Request& request, Payload payload, Changes& changed) {
  if (auto reply = refused(request)) return {std::move(*reply), {}};
  return {change(request, std::move(payload), changed), {}};
}

VolumeAnswer SoleReplica::answer(const Request& request, bool cached) {
  if (auto reply = refused(request)) return {std::move(*reply), {}};
  if (const auto* body = std::get_if<Read>(&request.body)) return read_file(request, *body, cached);
  if (const auto* body = std::get_if<Open>(&request.body)) return {open_inode(request, *body), {}};
  if (const auto* body = std::get_if<Close>(&request.body)) return {close_inodes(request, *body), {}};
  if (const auto* body = std::get_if<Hello>(&request.body)) return {hello(request, *body), {}};
  if (std::holds_alternative<Goodbye>(request.body)) return {goodbye(request), {}};
  if (const auto* body = std::get_if<DropLeases>(&request.body)) {
    leases_->drop(request.session, body->inodes, body->mark);
    if (body->all) leases_->drop_all(request.session, body->mark);
    if (body->sent_all) forgive(request.session, body->inodes);
    return {};
  }
  if (const auto* body = std::get_if<Sync>(&request.body)) {
    auto status = sync(*body);
    return {status ? Reply{} : error_reply(std::move(status.error())), {}};
  }
  return {read_rows(request), {}};
}

// ---- reading ----

bool SoleReplica::holds(const Request& request, InodeNumber inode) const {
  if (request.who.uid == 0) return false;  // needs it for nothing
  if (is_limited(request.session)) {       // but of what it could give itself any mode
    const auto row = RowsView(*rows_->read()).inode(inode);
    if (!row || row->uid != request.who.uid) return false;
  }
  std::lock_guard lock(open_mutex_);
  return open_.holds(request.session, inode);
}

bool SoleReplica::may_have_open(const Request& request, InodeNumber inode) const {
  if (holds(request, inode)) return true;
  if (is_limited(request.session)) return false;
  const auto holders = leases_->holders(inode);
  return std::find(holders.begin(), holders.end(), request.session) != holders.end();
}

Reply SoleReplica::read_rows(const Request& request) {
  auto rows = rows_->read();
  Reply reply = read(*rows, request, false);
  if (reply.code == Code::access_denied) {
    const InodeNumber inode = std::visit(
        [](const auto& body) -> InodeNumber {
          if constexpr (requires { body.inode; }) return body.inode;
          return 0;
        },
        request.body);
    if (inode != 0 && holds(request, inode)) reply = read(*rows, request, true);
  }
  if (std::holds_alternative<Usage>(request.body)) {
    const uint64_t room = room_bytes_.load();
    reply.available_bytes = room == 0 ? 0 : parts_.chunks.available_bytes();
    reply.available_inodes = room / kInodeBytes;
  }
  return reply;
}

VolumeAnswer SoleReplica::read_file(const Request& request, const Read& body, bool cached) {
  Reply last;
  for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
    Result<ReadPlan> plan = plan_read(*rows_->read(), request.who, body, false);
    if (!plan && plan.error().code == Code::access_denied && may_have_open(request, body.inode))
      plan = plan_read(*rows_->read(), request.who, body, true);
    if (!plan) return {error_reply(std::move(plan.error())), {}};
    Bytes payload;
    last = read_pieces(*plan, cached, payload);
    if (last.code == Code::ok) {
      last.attributes = plan->attributes;
      return {std::move(last), std::move(payload)};
    }
    if (last.code == Code::uncached) return {std::move(last), {}};
    if (last.code != Code::not_found) break;
  }
  if (last.code == Code::not_found)
    last = error_reply(Code::corrupt, "a chunk of inode " + std::to_string(body.inode) + " is missing");
  parts_.logger.error("volume {}: cannot read inode {} at {}: {}", charter_.number, body.inode, body.offset,
                      to_text(Error{last.code, last.message}));
  return {std::move(last), {}};
}

Reply SoleReplica::read_pieces(const ReadPlan& plan, bool cached, Bytes& out) const {
  out.resize(plan.length);
  std::copy(plan.content.begin(), plan.content.end(), out.begin());
  for (const ReadPlan::Piece& piece : plan.pieces) {
    auto status = parts_.chunks.read({charter_.number, piece.chunk}, piece.chunk_offset,
                                     std::span(out).subspan(piece.at, piece.length), cached);
    if (!status) return error_reply(std::move(status.error()));
  }
  return {};
}

Result<std::vector<Bytes>> SoleReplica::register_entries(uint64_t from, size_t limit) const {
  std::vector<Bytes> entries;
  auto rows = rows_->read();
  EFS_TRY(rows->scan(kRegister, number_key(from), [&](std::string_view, std::string_view value) {
    if (entries.size() < limit) entries.push_back(to_bytes(view(value)));
    return entries.size() < limit;
  }));
  return entries;
}

// ---- leases ----

// True when something was leased: the answer has to be of one moment.
bool SoleReplica::grant(const Request& request, Reply& reply) {
  const SessionId& session = request.session;
  const auto share = [&](InodeNumber inode, uint8_t bit) {
    if (inode != 0 && leases_->share(session, inode, bit == kLeaseDirectory)) reply.lease |= bit;
  };
  const bool found = reply.code == Code::ok && !reply.junction;
  if (const auto* lookup = std::get_if<Lookup>(&request.body)) {
    if (reply.code == Code::ok || reply.code == Code::not_found) share(lookup->parent, kLeaseDirectory);
    if (found) share(reply.attributes.inode, kLeaseInode);
  } else if (const auto* listing = std::get_if<ReadDirectory>(&request.body)) {
    if (reply.code == Code::ok) share(listing->inode, kLeaseDirectory);
    for (auto at = reply.entries.begin(); at != reply.entries.end(); ++at) {
      if (at.has_attributes() && !leases_->share(session, at.inode())) reply.entries.hide_attributes(at);
    }
  } else if (found && reply.attributes.inode != 0 && !std::holds_alternative<Unlink>(request.body)) {
    share(reply.attributes.inode, kLeaseInode);
    if (const auto* create = std::get_if<Create>(&request.body)) share(create->parent, kLeaseDirectory);
    if (const auto* link = std::get_if<Link>(&request.body)) share(link->parent, kLeaseDirectory);
    if (wants_to_write(request.body, reply) && !is_own_session(session) &&
        leases_->own(session, reply.attributes.inode))
      reply.lease |= kLeaseExclusive;
  }
  if (std::holds_alternative<Unlink>(request.body) && leases_->holds(session, reply.attributes.inode))
    reply.lease |= kLeaseInode;  // what it held already, until it drops that
  if (reply.lease != 0) reply.lease_mark = leases_->mark();
  return reply.lease != 0;
}

// A lease lets a mount answer an open itself: while it was asked to forget, it had to say what is open.
void SoleReplica::release_presumed(const Changes& changed) {
  for (const SessionId& session : changed.presumed) {
    std::lock_guard lock(apply_mutex_);
    std::lock_guard open_lock(open_mutex_);  // no open comes in between
    if (!open_.holds(session, changed.unlinked)) propose_house(ReleaseOrphans{session, {changed.unlinked}});
  }
}

int64_t SoleReplica::heard_ns(const SessionId& session) const {
  std::lock_guard lock(open_mutex_);
  return open_.heard_ns(session);
}

// ---- sessions ----

// The lock covers check and entry: an unlink sees the holder, or the open sees that it is gone. What lost its
// name stays for those who held it then, and for nobody else: who came by an old name would lose it with
// them.
Reply SoleReplica::open_inode(const Request& request, const Open& body) {
  std::lock_guard lock(open_mutex_);
  if (!knows(request.session)) return error_reply(Code::expired);
  auto rows = rows_->read();
  const RowsView view(*rows);
  auto row = view.inode(body.inode);
  if (!row) return error_reply(std::move(row.error()));
  if (row->nlink == 0 && !open_.holds(request.session, body.inode)) {
    auto orphan = rows->get(kOrphans, session_key(request.session, body.inode));
    if (!orphan) return error_reply(std::move(orphan.error()));
    if (!*orphan) return error_reply(Code::stale);
  }
  auto may = check_open(view, body.inode, *row, request.who, body.want);
  if (!may) return error_reply(std::move(may.error()));
  if (!open_.open(request.session, body.inode)) return error_reply(Code::overloaded);
  Reply reply;
  reply.attributes = attributes_of(body.inode, *row);
  return reply;
}

Reply SoleReplica::close_inodes(const Request& request, const Close& body) {
  ReleaseOrphans release;
  release.session = request.session;
  {
    std::lock_guard lock(open_mutex_);
    for (InodeNumber inode : body.inodes) open_.close(request.session, inode);
  }
  for (InodeNumber inode : body.inodes) leases_->disown(request.session, inode);
  forgive(request.session, body.inodes);
  auto rows = rows_->read();
  for (InodeNumber inode : body.inodes) {
    auto orphan = rows->get(kOrphans, session_key(request.session, inode));
    if (!orphan) return error_reply(std::move(orphan.error()));
    if (*orphan) release.inodes.push_back(inode);
  }
  rows.reset();
  if (release.inodes.empty()) return {};
  std::lock_guard lock(apply_mutex_);
  std::lock_guard open_lock(open_mutex_);  // no open comes in between
  std::erase_if(release.inodes, [&](InodeNumber inode) { return open_.holds(request.session, inode); });
  auto removed = release.inodes;
  const Reply released = propose_house(std::move(release));
  // What others have open goes on changing, and this mount's kernel may still show it.
  rows = rows_->read();
  std::erase_if(removed, [&](InodeNumber inode) {
    const auto row = rows->get(kInodes, number_key(inode));
    return !row || *row;
  });
  leases_->removed(removed);
  return released;
}

namespace {
Result<std::optional<SessionRow>> session_row(const ReadRows& rows, const SessionId& session) {
  EFS_ASSIGN(const auto found, rows.get(kSessions, session_key(session)));
  if (!found) return std::nullopt;
  EFS_ASSIGN(const auto row, decode<SessionRow>(view(*found)));
  return row;
}
}  // namespace

Reply SoleReplica::hello(const Request& request, const Hello& body) {
  Reply answer;
  std::vector<InodeNumber> inodes = body.open;
  std::sort(inodes.begin(), inodes.end());
  inodes.erase(std::unique(inodes.begin(), inodes.end()), inodes.end());
  Result<bool> noted = false;
  if (!is_own_session(request.session)) {
    std::lock_guard lock(apply_mutex_);
    bool greeted = false;
    {
      std::lock_guard open_lock(open_mutex_);
      if (!open_.begin(request.session, parts_.clock.now_ns()))
        return error_reply(Code::overloaded, "the volume has " + std::to_string(kMaxHolders) +
                                                 " sessions: unmount some of its mounts");
      greeted = open_.greeted(request.session);
    }
    auto row = session_row(*rows_->read(), request.session);
    if (!row) return error_reply(std::move(row.error()));
    if (!*row) {
      ++last_time_ns_;  // no two begin at one time, whatever the clock says
      Reply reply = propose_house(OpenSession{}, request.session);
      if (reply.code != Code::ok) return reply;
    }
    answer.session = SessionMark{*row ? (*row)->since_ns : last_time_ns_, opened_time_ns_};
    // It was there before this owner's start; who says so may have ended since.
    if (body.known ? body.known->owner_ns != opened_time_ns_ : row->has_value() && !greeted) {
      const auto since_ns = next_run_ns(body.known);
      if (!since_ns) return error_reply(since_ns.error());
      noted = expect_late(request.session, inodes, greeted ? std::nullopt : std::optional(*since_ns));
    }
  }
  // A session that is told of this run has what is noted of it on disk: the next one looks no further back.
  if (!noted || (*noted && !sync())) answer.session.reset();
  // Who may not act for everybody is believed what it may have been granted, no lock that is new here.
  if (const size_t lost = locks_.claim(request.session, body.locks, is_limited(request.session)); lost > 0)
    parts_.logger.warning("volume {}: {} locks that a mount held are others' by now", charter_.number, lost);
  if (!body.more) locks_.claimed(request.session);
  std::lock_guard lock(open_mutex_);
  auto rows = rows_->read();
  const RowsView view(*rows);
  for (InodeNumber inode : inodes) {
    const auto row = view.inode(inode);
    if (!row) continue;
    if (!open_.open(request.session, inode)) return error_reply(Code::overloaded);
  }
  if (!body.more) open_.greet(request.session, parts_.clock.now_ns());
  return answer;
}

Reply SoleReplica::goodbye(const Request& request) {
  locks_.end(request.session);
  std::lock_guard lock(apply_mutex_);
  {
    std::lock_guard open_lock(open_mutex_);
    open_.end(request.session);
  }
  leases_->detach(request.session);
  return propose_house(EndSessions{{request.session}});
}

// ---- changing ----

namespace {
Status check_payload(const Payload& payload, uint32_t crc) {
  if (payload.empty() || payload.size() > kMaxWrite) return fail(Code::invalid_argument);
  if (crc != 0 && crc32c(payload) != crc)
    return fail(Code::corrupt, "the bytes of a write were damaged on their way");
  return {};
}
}  // namespace

Result<ChunkReference> SoleReplica::store_chunk(ByteView bytes, Pins& pins) {
  const Id hash = sha256(bytes);
  const ChunkId chunk = chunk_id(charter_.chunk_key, hash);
  pins.add(chunk);
  const ChunkKey key{charter_.number, chunk};
  PackedBytes packed;
  if (!parts_.chunks.contains(key)) packed = pack(compression_.load(), bytes);
  EFS_TRY(parts_.chunks.put(key, hash, {bytes, packed}, Durability::by_sync));
  return ChunkReference{chunk, uint32_t(bytes.size())};
}

Result<OperationBody> SoleReplica::prepare_write(const WriteScattered& write, Payload payload, Pins& pins) {
  EFS_TRY(check_payload(payload, write.crc));
  ScatteredExtents out;
  out.inode = write.inode;
  out.pieces = write.pieces;
  out.mtime_ns = write.mtime_ns;
  if (payload.size() <= kMaxBytesInLog) {
    out.bytes = std::move(payload).release();
  } else {
    EFS_ASSIGN(out.chunk, store_chunk(payload, pins));
  }
  return OperationBody(std::move(out));
}

Result<OperationBody> SoleReplica::prepare_write(const Write& write, Payload payload, Pins& pins) {
  EFS_TRY(check_payload(payload, write.crc));
  WriteExtents out;
  out.inode = write.inode;
  out.offset = write.offset;
  out.append = write.append;
  out.clear_suid = write.clear_suid;
  out.mtime_ns = write.mtime_ns;
  out.attributes = write.attributes;
  if (payload.size() <= kMaxBytesInLog) {
    out.bytes = std::move(payload).release();
  } else {
    EFS_ASSIGN(auto chunk, store_chunk(payload, pins));
    out.chunks.push_back(chunk);
  }
  return OperationBody(std::move(out));
}

namespace {
// Taken even when the disk is nearly full: what frees, and what changes rows that are there.
bool needs_no_room(const RequestBody& body) {
  if (const auto* rename = std::get_if<Rename>(&body)) return !rename->whiteout;
  if (const auto* allocate = std::get_if<Allocate>(&body)) return allocate->punch;
  return std::holds_alternative<SetAttributes>(body) || std::holds_alternative<Unlink>(body) ||
         std::holds_alternative<RemoveXattr>(body) || std::holds_alternative<RemoveJunction>(body);
}
bool is_durable_at_once(const RequestBody& body) {
  if (const auto* write = std::get_if<Write>(&body)) return write->durable;
  if (const auto* write = std::get_if<WriteScattered>(&body)) return write->durable;
  return std::holds_alternative<MakeJunction>(body) || std::holds_alternative<RemoveJunction>(body) ||
         std::holds_alternative<AppendRegister>(body) || std::holds_alternative<SetPolicy>(body);
}
}  // namespace

// What an operation carries becomes a chunk under the apply lock, where nothing is packed any more.
PackedBytes SoleReplica::pack_carried(const OperationBody& body) const {
  return std::visit(
      [&](const auto& one) -> PackedBytes {
        if constexpr (requires { one.bytes; }) return pack(compression_.load(), one.bytes);
        return {};
      },
      body);
}

Status SoleReplica::has_room_for(const Request& request) {
  if (needs_no_room(request.body)) return {};
  if (logged_since_measured_.load(std::memory_order_relaxed) > kLoggedBetweenLooks) measure_room();
  if (room_bytes_.load(std::memory_order_relaxed) == 0)
    return fail(Code::no_space, "the disk of the volume's metadata is full");
  if (const auto* allocate = std::get_if<Allocate>(&request.body)) return has_room_for(*allocate);
  return {};
}

// What is there already takes no more room.
Status SoleReplica::has_room_for(const Allocate& request) const {
  const uint64_t available = parts_.chunks.available_bytes();
  if (request.length <= available) return {};
  uint64_t there = 0;
  if (request.length <= kMaxFileSize && request.offset <= kMaxFileSize - request.length) {
    const uint64_t end = request.offset + request.length;
    const auto rows = rows_->read();
    EFS_TRY(RowsView(*rows).extents(request.inode, request.offset, [&](const ExtentRow& extent) {
      if (extent.start >= end) return false;
      there += std::min(extent.end, end) - std::max(extent.start, request.offset);
      return true;
    }));
  }
  if (request.length - there <= available) return {};
  return fail(Code::no_space);
}

Status SoleReplica::make_room_in_memory() {
  return rows_->dirty_bytes() > kMaxDirtyBytes ? checkpoint() : Status{};
}

Reply SoleReplica::change(const Request& request, Payload payload, Changes& changed) {
  Pins pins(*this);
  Operation operation;
  operation.body = WriteExtents{};  // of a Write, until its bytes are stored
  auto store = [&](const auto& body) -> Status {
    using Body = std::decay_t<decltype(body)>;
    if constexpr (std::is_same_v<Body, Write> || std::is_same_v<Body, WriteScattered>) {
      EFS_ASSIGN(operation.body, prepare_write(body, std::move(payload), pins));
    }
    return {};
  };
  auto take_over = [&](const auto& body) {
    if constexpr (std::is_constructible_v<OperationBody, decltype(body)>) operation.body = body;
  };
  std::visit(take_over, request.body);
  Status prepared = has_room_for(request);
  if (prepared) prepared = make_room_in_memory();
  if (prepared) prepared = std::visit(store, request.body);
  // What was made is only answered as it was.
  if (!prepared && !was_made(request.session, request.sequence))
    return error_reply(std::move(prepared.error()));
  operation.who = request.who;
  operation.session = request.session;
  operation.sequence = request.sequence;
  operation.acknowledged = request.acknowledged;
  if (const InodeNumber inode = subject_of(operation.body)) operation.held = holds(request, inode);
  if (auto* set = std::get_if<SetAttributes>(&operation.body); set && is_limited(request.session))
    set->has_write_handle &= operation.held;
  if (const auto* copy = std::get_if<CopyRange>(&operation.body); copy && operation.held)
    operation.held = may_have_open(request, copy->from);
  const PackedBytes packed = pack_carried(operation.body);
  if (auto stepped = take_steps(operation, request, changed); !stepped)
    return error_reply(std::move(stepped.error()));
  Reply reply;
  {
    std::lock_guard lock(apply_mutex_);
    reply = closed_ ? error_reply(Code::stale, "the volume is being removed")
                    : propose(std::move(operation), packed, request, changed);
  }
  if ((reply.code != Code::ok || changed.repeated) && !pins.chunks.empty()) {
    const auto stored = pins.chunks;
    pins.release();
    drop_unnamed(stored);
  }
  if (reply.code == Code::ok && is_durable_at_once(request.body)) {
    if (auto status = sync(); !status) return error_reply(std::move(status.error()));
  }
  return reply;
}

// What is not there was lost with the power: who made it is not to hear that it is durable.
Status SoleReplica::sync(const Sync& request) {
  if (request.inode != 0) EFS_TRY(RowsView(*rows_->read()).inode(request.inode));
  return sync();
}

Status SoleReplica::sync() {
  if (failed_.load()) return fail(Code::io, "the volume stopped after a failed sync; restart the peer");
  const uint64_t applied = rows_->applied_index();
  auto step = [&]() -> Status {
    EFS_TRY(parts_.chunks.sync());
    return parts_.log->sync();
  };
  if (auto status = step(); !status) {
    fail_for_good(status.error(), "a sync failed");
    return status;
  }
  note_durable(applied);
  return {};
}

void SoleReplica::note_durable(uint64_t index) {
  uint64_t before = durable_index_.load();
  while (before < index && !durable_index_.compare_exchange_weak(before, index)) {
  }
}

Status SoleReplica::close_if_empty() {
  std::lock_guard lock(apply_mutex_);
  EFS_ASSIGN(const StateRow state, read_state(*rows_->read()));
  if (state.usage.files > 1) {
    return fail(Code::not_empty, "the volume is not empty: " + std::to_string(state.usage.files - 1) +
                                     " files are in it, or unlinked and still open somewhere");
  }
  closed_ = true;
  return {};
}

void SoleReplica::reopen() {
  std::lock_guard lock(apply_mutex_);
  closed_ = false;
}

}  // namespace efs
