//===- status.h - Status values of the Sluice runtime -----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Every fallible call of the runtime returns a Status or a Result<T>; no exception crosses the API.
// A Status carries a code (stable, mapped to the exit codes of the tools), a message that names the
// value, its limit and the remedy, and, for errors inside a step, where it happened (rank, device,
// index of the plan operation). Statuses are annotated on their way up with withContext().
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_STATUS_H
#define SLUICE_STATUS_H

#include <cassert>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace sluice {

/// What went wrong, in the terms a caller can act on. Values are part of the C API and of the
/// tools' exit codes: never renumber.
enum class StatusCode : int {
  kOk = 0,
  kInternal = 1,           ///< a defect of Sluice itself
  kInvalidArgument = 2,    ///< the caller's request is wrong (flag, token id, option)
  kNotFound = 3,           ///< a file, tensor, symbol or device does not exist
  kDataCorrupt = 4,        ///< bytes do not say what they must (hash, header, bounds)
  kUnsupported = 5,        ///< understood, but not something this build can do
  kResourceExhausted = 6,  ///< does not fit: memory, sequences, pages, disk
  kIo = 7,                 ///< the operating system refused to read or write
  kVersionMismatch = 8,    ///< written by a newer major version
  kDevice = 9,             ///< an accelerator or its driver failed
  kAborted = 10,           ///< another rank failed, a time-out passed or the user interrupted
  kCheckFailed = 11,       ///< a verification ran and the result is outside its tolerance
};

/// The lower-case name of `code`, as in "invalid argument".
const char *statusCodeName(StatusCode code);

/// Where inside a step an error happened; -1 means unknown.
struct StatusLocation {
  int rank = -1;
  int device = -1;
  int planOp = -1;
};

/// The outcome of a call. Cheap when ok (one null pointer); immutable and safe to share across
/// threads once constructed.
class [[nodiscard]] Status {
public:
  Status() = default;
  Status(StatusCode code, std::string message, StatusLocation where = {});

  static Status ok() { return {}; }

  bool isOk() const { return !rep; }
  explicit operator bool() const = delete;
  StatusCode code() const { return rep ? rep->code : StatusCode::kOk; }
  /// The message without code and location; empty when ok.
  std::string_view message() const { return rep ? std::string_view(rep->message) : ""; }
  StatusLocation where() const { return rep ? rep->where : StatusLocation{}; }

  /// "invalid argument: <message> [rank 1, plan op 17]", or "ok".
  std::string toString() const;

  /// The same error with "<context>: " put before its message; ok stays ok.
  Status withContext(std::string_view context) const;
  /// The same error with unknown parts of its location filled in; ok stays ok.
  Status at(StatusLocation where) const;

private:
  struct Rep {
    StatusCode code;
    std::string message;
    StatusLocation where;
  };
  std::shared_ptr<const Rep> rep;
};

/// Either a value or the Status that says why there is none.
template <typename T> class [[nodiscard]] Result {
public:
  Result(T value) : storage(std::move(value)) {}
  Result(Status status) : storage(std::move(status)) {
    assert(!std::get<Status>(storage).isOk() && "a Result without a value needs an error");
  }
  template <typename U, typename = std::enable_if_t<std::is_convertible_v<U &&, T> &&
                                                    !std::is_same_v<std::decay_t<U>, T> &&
                                                    !std::is_same_v<std::decay_t<U>, Status> &&
                                                    !std::is_same_v<std::decay_t<U>, Result<T>>>>
  Result(U &&value) : storage(T(std::forward<U>(value))) {}

  bool isOk() const { return std::holds_alternative<T>(storage); }
  Status status() const { return isOk() ? Status() : std::get<Status>(storage); }

  T &value() & {
    assert(isOk());
    return std::get<T>(storage);
  }
  const T &value() const & {
    assert(isOk());
    return std::get<T>(storage);
  }
  T &&value() && {
    assert(isOk());
    return std::get<T>(std::move(storage));
  }
  T &operator*() & { return value(); }
  const T &operator*() const & { return value(); }
  T &&operator*() && { return std::move(*this).value(); }
  T *operator->() { return &value(); }
  const T *operator->() const { return &value(); }

private:
  std::variant<Status, T> storage;
};

// Constructors for the common codes; the message follows the rule value - limit - remedy.
Status invalidArgument(std::string message);
Status notFound(std::string message);
Status dataCorrupt(std::string message);
Status unsupported(std::string message);
Status resourceExhausted(std::string message);
Status ioError(std::string message);
Status internalError(std::string message);

} // namespace sluice

#define SLUICE_CONCAT_IMPL(a, b) a##b
#define SLUICE_CONCAT(a, b) SLUICE_CONCAT_IMPL(a, b)

/// Returns from the enclosing function when `expr` is an error.
#define SLUICE_RETURN_IF_ERROR(expr)                                                               \
  do {                                                                                             \
    if (::sluice::Status sluiceStatus = (expr); !sluiceStatus.isOk())                              \
      return sluiceStatus;                                                                         \
  } while (false)

/// Declares or assigns `lhs` from the Result `expr`, or returns its error.
#define SLUICE_ASSIGN_OR_RETURN(lhs, expr)                                                         \
  SLUICE_ASSIGN_OR_RETURN_IMPL(SLUICE_CONCAT(sluiceResult, __LINE__), lhs, expr)
#define SLUICE_ASSIGN_OR_RETURN_IMPL(result, lhs, expr)                                            \
  auto result = (expr);                                                                            \
  if (!result.isOk())                                                                              \
    return result.status();                                                                        \
  lhs = std::move(*result)

#endif // SLUICE_STATUS_H
