// Requests about locks: who may, then Locks. None of it is logged.
#include <unistd.h>

#include "peer/volume/sole_replica.h"
#include "peer/volume/state/view.h"

namespace efs {

// As for opening: a POSIX read lock needs the file readable, a write lock writable, one of flock(2) either;
// who may have it open was let in before.
Status SoleReplica::may_lock(const Request& request, const FileLock& lock) {
  auto rows = rows_->read();
  const RowsView view(*rows);
  EFS_ASSIGN(const InodeRow row, view.inode(lock.inode));
  const bool reads = check_open(view, lock.inode, row, request.who, R_OK).has_value();
  const bool writes = check_open(view, lock.inode, row, request.who, W_OK).has_value();
  const bool may = lock.flock ? reads || writes : lock.type == kWriteLock ? writes : reads;
  return may || may_have_open(request, lock.inode) ? Status{} : fail(Code::access_denied);
}

void SoleReplica::execute_lock(const Request& request, Done done) {
  auto answer = [this, session = request.session, done = std::move(done)](Reply reply) {
    identify(session, reply);
    done({std::move(reply), {}});
  };
  if (auto reply = refused(request)) return answer(std::move(*reply));
  if (const auto* cancel = std::get_if<CancelLock>(&request.body)) {
    locks_.cancel(request.session, cancel->ticket);
    return answer({});
  }
  const auto* set = std::get_if<SetLock>(&request.body);
  const auto* get = std::get_if<GetLock>(&request.body);
  const FileLock& lock = set ? set->lock : get->lock;
  if (lock.type != kUnlocked) {
    if (auto may = may_lock(request, lock); !may) return answer(error_reply(std::move(may.error())));
  }
  if (set) return locks_.set(request.session, *set, std::move(answer));
  locks_.get(request.session, *get, std::move(answer));
}

void SoleReplica::take_locks(const SessionId& session) {
  parts_.logger.warning("volume {}: a mount was silent for {} s; its locks are free for others",
                        charter_.number, kLockTerm / kSecond);
  leases_->fence(session);
}

}  // namespace efs
