//===- File.cpp - Reading and writing files ---------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Plain system calls, because the standard streams hide why something failed. Calls are repeated
// when a signal interrupts them and when the kernel moves fewer bytes than asked (it never moves
// more than 2 GiB at once).
//
//===------------------------------------------------------------------------===//
#include "runtime/base/File.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace sluice {

/// The most bytes passed to one read or write; larger counts are legal but never served whole.
static constexpr size_t kMaxTransfer = size_t(1) << 30;
static constexpr size_t kOutputBuffer = size_t(1) << 20;

UniqueFd::~UniqueFd() {
  if (fd >= 0)
    ::close(fd);
}

Status fileError(std::string_view verb, const std::string &path, int errorNumber) {
  std::string message = "cannot " + std::string(verb) + " \"" + path +
                        "\": " + std::generic_category().message(errorNumber);
  switch (errorNumber) {
  case ENOENT:
  case ENOTDIR:
    return notFound(std::move(message));
  case ENOSPC:
  case EDQUOT:
    return resourceExhausted(message + "; free space there or write to another device");
  case ENOMEM:
  case EMFILE:
  case ENFILE:
    return resourceExhausted(std::move(message));
  default:
    return ioError(std::move(message));
  }
}

/// Opens an existing regular file for reading and gives its size.
static Result<UniqueFd> openForReading(const std::string &path, uint64_t &size) {
  // Without O_NONBLOCK a named pipe would wait for a writer before we can refuse it.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0)
    return fileError("open", path, errno);
  struct stat info;
  if (::fstat(fd.get(), &info) != 0)
    return fileError("examine", path, errno);
  if (S_ISDIR(info.st_mode))
    return fileError("read", path, EISDIR);
  if (!S_ISREG(info.st_mode))
    return ioError("cannot read \"" + path + "\": not a regular file");
  size = static_cast<uint64_t>(info.st_size);
  return fd;
}

Result<MappedFile> MappedFile::open(const std::string &path) {
  uint64_t size = 0;
  SLUICE_ASSIGN_OR_RETURN(UniqueFd fd, openForReading(path, size));
  if (size == 0)
    return MappedFile(path, nullptr, 0);
  void *base = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED)
    return fileError("map", path, errno);
  return MappedFile(path, static_cast<const uint8_t *>(base), size);
}

MappedFile::MappedFile(MappedFile &&other) noexcept
    : name(std::move(other.name)), base(std::exchange(other.base, nullptr)),
      length(std::exchange(other.length, 0)) {}

MappedFile &MappedFile::operator=(MappedFile &&other) noexcept {
  std::swap(name, other.name);
  std::swap(base, other.base);
  std::swap(length, other.length);
  return *this;
}

MappedFile::~MappedFile() {
  if (base)
    ::munmap(const_cast<uint8_t *>(base), length);
}

void MappedFile::willNeed(uint64_t offset, uint64_t bytes) const {
  if (offset >= length)
    return;
  uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  uint64_t begin = offset / page * page, end = offset + std::min(bytes, length - offset);
  ::madvise(const_cast<uint8_t *>(base) + begin, end - begin, MADV_WILLNEED);
}

Result<RandomAccessFile> RandomAccessFile::open(const std::string &path) {
  uint64_t size = 0;
  SLUICE_ASSIGN_OR_RETURN(UniqueFd fd, openForReading(path, size));
  return RandomAccessFile(path, std::move(fd), size);
}

Status RandomAccessFile::read(uint64_t offset, void *destination, size_t bytes) const {
  auto pastEnd = [&](uint64_t size) {
    return dataCorrupt("\"" + name + "\": reading " + std::to_string(bytes) + " bytes at offset " +
                       std::to_string(offset) + " passes the file's " + std::to_string(size) +
                       " bytes; the file is truncated");
  };
  if (offset > length || bytes > length - offset)
    return pastEnd(length);
  uint8_t *to = static_cast<uint8_t *>(destination);
  for (size_t done = 0; done < bytes;) {
    ssize_t got = ::pread(fd.get(), to + done, std::min(bytes - done, kMaxTransfer),
                          static_cast<off_t>(offset + done));
    if (got < 0) {
      if (errno == EINTR)
        continue;
      return fileError("read", name, errno);
    }
    if (got == 0) // it shrank since it was opened
      return pastEnd(offset + done);
    done += static_cast<size_t>(got);
  }
  return Status::ok();
}

Result<std::string> readFile(const std::string &path, uint64_t maxBytes) {
  SLUICE_ASSIGN_OR_RETURN(RandomAccessFile file, RandomAccessFile::open(path));
  if (file.size() > maxBytes)
    return resourceExhausted("\"" + path + "\": " + std::to_string(file.size()) +
                             " bytes exceed the limit of " + std::to_string(maxBytes));
  std::string content(static_cast<size_t>(file.size()), '\0');
  SLUICE_RETURN_IF_ERROR(file.read(0, content.data(), content.size()));
  return content;
}

Result<OutputFile> OutputFile::create(const std::string &path) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (fd.get() < 0)
    return fileError("create", path, errno);
  return OutputFile(path, std::move(fd));
}

Status OutputFile::writeThrough(const void *data, size_t bytes) {
  const uint8_t *from = static_cast<const uint8_t *>(data);
  while (bytes > 0) {
    ssize_t put = ::write(fd.get(), from, std::min(bytes, kMaxTransfer));
    if (put < 0) {
      if (errno == EINTR)
        continue;
      return fileError("write", name, errno);
    }
    from += put;
    bytes -= static_cast<size_t>(put);
    written += static_cast<uint64_t>(put);
  }
  return Status::ok();
}

Status OutputFile::flush() {
  Status status = writeThrough(buffer.data(), buffer.size());
  buffer.clear();
  return status;
}

Status OutputFile::write(const void *data, size_t bytes) {
  if (buffer.size() + bytes > kOutputBuffer)
    SLUICE_RETURN_IF_ERROR(flush());
  if (bytes >= kOutputBuffer)
    return writeThrough(data, bytes);
  const uint8_t *from = static_cast<const uint8_t *>(data);
  buffer.insert(buffer.end(), from, from + bytes);
  return Status::ok();
}

Status OutputFile::sync() {
  SLUICE_RETURN_IF_ERROR(flush());
  // Devices and pipes cannot be synced (EINVAL) and have nothing to lose.
  while (::fsync(fd.get()) != 0)
    if (errno != EINTR)
      return errno == EINVAL ? Status::ok() : fileError("sync", name, errno);
  return Status::ok();
}

Status OutputFile::close() {
  SLUICE_RETURN_IF_ERROR(flush());
  // Network file systems report a full disk here. The descriptor is gone even after EINTR.
  if (::close(fd.release()) != 0 && errno != EINTR)
    return fileError("close", name, errno);
  return Status::ok();
}

Status writeFile(const std::string &path, std::string_view content) {
  SLUICE_ASSIGN_OR_RETURN(OutputFile file, OutputFile::create(path));
  SLUICE_RETURN_IF_ERROR(file.write(content));
  return file.close();
}

} // namespace sluice
