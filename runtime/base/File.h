//===- File.h - Files, mapped, read, written and committed ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Everything the project does with files goes through here, so that interrupted calls, short reads,
// full disks and killed writers are handled once. An artifact either is there completely or not at
// all: AtomicDirectory writes beside the destination, makes the bytes durable and only then
// renames.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_BASE_FILE_H
#define SLUICE_RUNTIME_BASE_FILE_H

#include "sluice/status.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice {

/// An open descriptor, closed on destruction.
class UniqueFd {
public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd(fd) {}
  UniqueFd(UniqueFd &&other) noexcept : fd(std::exchange(other.fd, -1)) {}
  UniqueFd &operator=(UniqueFd &&other) noexcept {
    std::swap(fd, other.fd);
    return *this;
  }
  ~UniqueFd();
  int get() const { return fd; }
  int release() { return std::exchange(fd, -1); }

private:
  int fd = -1;
};

/// The Status for a failed system call on `path`: kNotFound (ENOENT, ENOTDIR), kResourceExhausted
/// (no space, quota, memory) or kIo, with the system's reason. `verb` completes "cannot <verb>".
Status fileError(std::string_view verb, const std::string &path, int errorNumber);

/// A regular file mapped read only as a whole. The pages are shared with every other process that
/// maps it. A file that another process truncates while it is mapped kills the reader (SIGBUS), as
/// with every mapping. Thread-safe once open.
class MappedFile {
public:
  static Result<MappedFile> open(const std::string &path);
  MappedFile(MappedFile &&other) noexcept;
  MappedFile &operator=(MappedFile &&other) noexcept;
  ~MappedFile();

  /// Page-aligned; null when the file is empty.
  const uint8_t *data() const { return base; }
  uint64_t size() const { return length; }
  std::span<const uint8_t> bytes() const { return {base, static_cast<size_t>(length)}; }
  const std::string &path() const { return name; }

  /// Asks the kernel to read [offset, offset + bytes) ahead; a hint, so it cannot fail.
  void willNeed(uint64_t offset, uint64_t bytes) const;

private:
  MappedFile(std::string path, const uint8_t *base, uint64_t length)
      : name(std::move(path)), base(base), length(length) {}
  std::string name;
  const uint8_t *base = nullptr;
  uint64_t length = 0;
};

/// A regular file read by ranges, without moving a file position: thread-safe.
class RandomAccessFile {
public:
  static Result<RandomAccessFile> open(const std::string &path);

  /// Reads exactly `bytes` bytes at `offset`, or fails: kDataCorrupt when the range passes the end
  /// of the file, kIo when the system refuses.
  Status read(uint64_t offset, void *destination, size_t bytes) const;

  uint64_t size() const { return length; } ///< when it was opened
  const std::string &path() const { return name; }

private:
  RandomAccessFile(std::string path, UniqueFd fd, uint64_t length)
      : name(std::move(path)), fd(std::move(fd)), length(length) {}
  std::string name;
  UniqueFd fd;
  uint64_t length;
};

/// The whole content of a file of at most `maxBytes` bytes (kResourceExhausted beyond).
Result<std::string> readFile(const std::string &path, uint64_t maxBytes = uint64_t(1) << 30);

/// A file being written from its start, through a buffer. Not thread-safe. Only close() says
/// whether everything was written; a file destroyed before that is left incomplete.
class OutputFile {
public:
  /// Creates `path`, or empties it when it exists.
  static Result<OutputFile> create(const std::string &path);
  OutputFile(OutputFile &&other) = default;
  OutputFile &operator=(OutputFile &&other) = default;

  Status write(const void *data, size_t bytes);
  Status write(std::string_view text) { return write(text.data(), text.size()); }
  Status write(std::span<const uint8_t> bytes) { return write(bytes.data(), bytes.size()); }

  uint64_t offset() const { return written + buffer.size(); } ///< bytes written so far
  const std::string &path() const { return name; }

  /// Writes the buffer out and waits until the bytes are on the device.
  Status sync();
  /// Writes the buffer out and closes. No other call may follow.
  Status close();

private:
  OutputFile(std::string path, UniqueFd fd) : name(std::move(path)), fd(std::move(fd)) {}
  Status flush();
  Status writeThrough(const void *data, size_t bytes);

  std::string name;
  UniqueFd fd;
  std::vector<uint8_t> buffer;
  uint64_t written = 0; ///< without the buffer
};

/// Creates or replaces `path` with `content` (not atomically).
Status writeFile(const std::string &path, std::string_view content);

/// A directory that appears under its name complete or not at all.
///
/// Files are written under path(), a hidden sibling of the destination. commit() makes them durable
/// and swaps the directory into place in one step; without it the destructor removes them. A writer
/// that is killed leaves its sibling behind; the next commit to the same destination removes what
/// belongs to processes of this host that no longer run. Not thread-safe.
class AtomicDirectory {
public:
  /// Prepares to write `destination`. What exists there is replaced on commit when it is an empty
  /// directory or one that holds `marker`, the file that tells our artifacts from other
  /// directories; anything else is refused here already (kInvalidArgument), before work is spent on
  /// it.
  static Result<AtomicDirectory> create(const std::string &destination,
                                        const std::string &marker = "plan.pb");
  AtomicDirectory(AtomicDirectory &&other) noexcept;
  AtomicDirectory &operator=(AtomicDirectory &&other) noexcept;
  ~AtomicDirectory();

  /// Where to write; also the parent of sub-directories the caller makes.
  const std::string &path() const { return temporary; }
  std::string file(std::string_view name) const { return temporary + "/" + std::string(name); }
  const std::string &destination() const { return target; }

  /// Syncs every file and directory, moves the directory to its destination and syncs that change.
  /// On an error the destination is what it was before.
  Status commit();

private:
  AtomicDirectory(std::string target, std::string temporary, std::string marker)
      : target(std::move(target)), temporary(std::move(temporary)), marker(std::move(marker)) {}
  std::string target, temporary, marker;
};

} // namespace sluice

#endif // SLUICE_RUNTIME_BASE_FILE_H
