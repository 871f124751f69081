//===- AtomicDirectory.cpp - Directories that appear complete ---------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The temporary directory stands beside the destination, hence on the same file system, and is
// named
// `.NAME.tmp-HOST-PID-N`. The name says who writes it: a killed writer's directory is recognised by
// a process id that no longer runs, and the host keeps two machines that share a file system (or
// two containers) from judging each other's processes. Replacing an existing directory exchanges
// the two names in one step where the kernel and the file system can (renameat2); elsewhere the old
// one is moved aside first, which leaves a moment without either but never a mixture.
//
//===------------------------------------------------------------------------===//
#include "runtime/base/File.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

namespace fs = std::filesystem;

namespace sluice {

/// `.NAME.tmp-HOST-`: how every temporary of this destination and this host begins.
static std::string temporaryPrefix(const fs::path &destination) {
  char host[256] = {};
  if (::gethostname(host, sizeof host - 1) != 0)
    host[0] = '\0';
  return "." + destination.filename().string() + ".tmp-" + host + "-";
}

static Status syncPath(const fs::path &path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (fd.get() < 0)
    return fileError("open", path.string(), errno);
  while (::fsync(fd.get()) != 0)
    if (errno != EINTR)
      return errno == EINVAL ? Status::ok() : fileError("sync", path.string(), errno);
  return Status::ok();
}

/// Syncs the files and directories under `directory`, and it itself last.
static Status syncTree(const fs::path &directory) {
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    fs::file_status status = it->symlink_status(error);
    if (error)
      break;
    if (fs::is_directory(status))
      SLUICE_RETURN_IF_ERROR(syncTree(it->path()));
    else if (fs::is_regular_file(status))
      SLUICE_RETURN_IF_ERROR(syncPath(it->path()));
  }
  if (error)
    return fileError("list", directory.string(), error.value());
  return syncPath(directory);
}

/// Ok when `destination` may be replaced or does not exist.
static Status checkReplaceable(const fs::path &destination, const std::string &marker) {
  std::error_code error;
  fs::file_status status = fs::symlink_status(destination, error);
  if (status.type() == fs::file_type::not_found)
    return Status::ok();
  if (status.type() == fs::file_type::none)
    return fileError("examine", destination.string(), error.value());
  std::string remedy = "; remove it or choose another name";
  if (!fs::is_directory(status))
    return invalidArgument("\"" + destination.string() + "\" exists and is not a directory" +
                           remedy);
  if (fs::exists(destination / marker, error))
    return Status::ok();
  if (fs::is_empty(destination, error))
    return Status::ok();
  if (error)
    return fileError("examine", destination.string(), error.value());
  return invalidArgument("\"" + destination.string() +
                         "\" exists and is not a Sluice artifact (no " + marker +
                         " in it), so it is not replaced" + remedy);
}

Result<AtomicDirectory> AtomicDirectory::create(const std::string &destination,
                                                const std::string &marker) {
  std::error_code error;
  fs::path target = fs::path(destination).lexically_normal();
  if (!target.has_filename())
    target = target.parent_path(); // "name/"
  // Through a symbolic link, what it points to is replaced and the link stays.
  if (fs::is_symlink(target, error)) {
    target = fs::canonical(target, error);
    if (error)
      return fileError("follow", destination, error.value());
  }
  std::string name = target.filename().string();
  if (name.empty() || name == "." || name == "..")
    return invalidArgument("\"" + destination +
                           "\" does not name a directory to create; give it a name of its own");
  SLUICE_RETURN_IF_ERROR(checkReplaceable(target, marker));

  static std::atomic<unsigned> counter = 0;
  std::string base =
      (target.parent_path() / temporaryPrefix(target)).string() + std::to_string(::getpid()) + "-";
  for (;;) {
    // A name that exists was left by an earlier process with our id: commit() removes it one day.
    std::string temporary = base + std::to_string(counter.fetch_add(1));
    if (::mkdir(temporary.c_str(), 0777) == 0)
      return AtomicDirectory(target.string(), temporary, marker);
    if (errno != EEXIST)
      return fileError("create a directory for", target.string(), errno);
  }
}

AtomicDirectory::AtomicDirectory(AtomicDirectory &&other) noexcept
    : target(std::move(other.target)), temporary(std::exchange(other.temporary, {})),
      marker(std::move(other.marker)) {}

AtomicDirectory &AtomicDirectory::operator=(AtomicDirectory &&other) noexcept {
  std::swap(target, other.target);
  std::swap(temporary, other.temporary);
  std::swap(marker, other.marker);
  return *this;
}

AtomicDirectory::~AtomicDirectory() {
  std::error_code ignored;
  if (!temporary.empty())
    fs::remove_all(temporary, ignored);
}

/// Removes what killed writers of this host left for `destination`. Failures do not matter: the
/// artifact is in place, and the next commit tries again.
static void removeStale(const fs::path &destination) {
  std::error_code error;
  std::string prefix = temporaryPrefix(destination);
  fs::path parent = destination.has_parent_path() ? destination.parent_path() : fs::path(".");
  std::vector<fs::path> stale;
  for (fs::directory_iterator it(parent, error), end; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    if (name.rfind(prefix, 0) != 0)
      continue;
    pid_t pid = 0;
    const char *digits = name.data() + prefix.size(), *last = name.data() + name.size();
    auto [rest, code] = std::from_chars(digits, last, pid);
    bool ours = code == std::errc() && pid > 0 && rest != last && *rest == '-';
    if (ours && ::kill(pid, 0) != 0 && errno == ESRCH)
      stale.push_back(it->path());
  }
  for (const fs::path &path : stale) {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
}

/// Moves `temporary` to `destination`. When something was there, `temporary` names it afterwards.
static Status moveIntoPlace(const std::string &temporary, const std::string &destination) {
  auto rename = [](const std::string &from, const std::string &to, unsigned flags) {
    return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0;
  };
  if (rename(temporary, destination, RENAME_EXCHANGE))
    return Status::ok();
  if (errno == ENOENT) { // nothing there yet
    if (rename(temporary, destination, RENAME_NOREPLACE))
      return Status::ok();
    if (errno == EEXIST)
      return ioError("\"" + destination + "\" was created by another process meanwhile; try again");
  }
  if (errno != EINVAL && errno != ENOSYS)
    return fileError("rename to", destination, errno);
  // The file system knows neither flag.
  std::string aside = temporary + "-old";
  bool existed = ::rename(destination.c_str(), aside.c_str()) == 0;
  if (!existed && errno != ENOENT)
    return fileError("move aside", destination, errno);
  if (::rename(temporary.c_str(), destination.c_str()) != 0) {
    int reason = errno;
    if (existed && ::rename(aside.c_str(), destination.c_str()) != 0)
      return ioError("cannot rename to \"" + destination + "\"; what was there is now \"" + aside +
                     "\"");
    return fileError("rename to", destination, reason);
  }
  if (existed && ::rename(aside.c_str(), temporary.c_str()) != 0)
    return fileError("rename", aside, errno);
  return Status::ok();
}

Status AtomicDirectory::commit() {
  assert(!temporary.empty() && "committed twice");
  SLUICE_RETURN_IF_ERROR(syncTree(temporary));
  SLUICE_RETURN_IF_ERROR(checkReplaceable(target, marker));
  SLUICE_RETURN_IF_ERROR(moveIntoPlace(temporary, target));
  fs::path parent = fs::path(target).parent_path();
  Status synced = syncPath(parent.empty() ? "." : parent);
  std::error_code ignored;
  fs::remove_all(temporary, ignored); // the directory that was replaced, if any
  temporary.clear();
  removeStale(target);
  return synced;
}

} // namespace sluice
