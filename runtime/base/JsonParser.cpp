//===- JsonParser.cpp - From text to a JSON document ------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// nlohmann-json reads the text and reports events; the handler here builds our document. Going
// through events rather than its own document type lets us refuse duplicate keys and deep nesting
// while they are read, keep the order of members, and avoid holding a large header twice. The
// characters reach the parser through an iterator that remembers where it is, because the events
// themselves carry no position.
//
//===------------------------------------------------------------------------===//
#include "runtime/base/File.h"
#include "runtime/base/Json.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

namespace sluice::json {

namespace {

/// Walks over the text and leaves its position in `*reached`.
class TrackingIterator {
public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char *;
  using reference = const char &;

  TrackingIterator(const char *at, const char **reached) : at(at), reached(reached) {}
  reference operator*() const { return *at; }
  TrackingIterator &operator++() {
    *reached = ++at;
    return *this;
  }
  TrackingIterator operator++(int) {
    TrackingIterator old = *this;
    ++*this;
    return old;
  }
  bool operator==(const TrackingIterator &other) const { return at == other.at; }
  bool operator!=(const TrackingIterator &other) const { return at != other.at; }

private:
  const char *at;
  const char **reached;
};

/// Builds the document. `open` are the arrays and objects being read, outermost first; each is the
/// last element of the one before it, so that growing one moves none of the others.
class Builder : public nlohmann::json_sax<nlohmann::json> {
public:
  Value root;
  std::string error;
  /// For a syntax error, the characters up to and including the wrong one. The parser may have read
  /// one more, to see that a number ends.
  std::optional<size_t> errorEnd;

  bool null() override { return add(Value()); }
  bool boolean(bool value) override { return add(Value(value)); }
  bool number_integer(number_integer_t value) override { return add(Value(value)); }
  bool number_unsigned(number_unsigned_t value) override { return add(Value(value)); }
  bool number_float(number_float_t value, const string_t &) override { return add(Value(value)); }
  bool string(string_t &value) override { return add(Value(std::move(value))); }
  bool binary(binary_t &) override { return fail("binary values are not JSON"); }

  bool start_object(size_t) override { return start(Value::object()); }
  bool start_array(size_t) override { return start(Value::array()); }
  bool end_object() override { return finish(); }
  bool end_array() override { return finish(); }

  bool key(string_t &name) override {
    slot = open.back()->objectIf()->insert(name, Value());
    return slot || fail("duplicate key \"" + shortened(name) + "\"");
  }

  bool parse_error(size_t charactersRead, const std::string &,
                   const nlohmann::detail::exception &e) override {
    errorEnd = charactersRead;
    // "[json.exception.parse_error.101] parse error at line 1, column 2: <reason>": the position is
    // ours to state, in the form of all other errors.
    std::string_view what = e.what();
    size_t prefix = what.find("] ");
    if (prefix != std::string_view::npos)
      what.remove_prefix(prefix + 2);
    if (what.rfind("parse error", 0) == 0 && what.find(": ") != std::string_view::npos)
      what.remove_prefix(what.find(": ") + 2);
    return fail(shortened(what));
  }

private:
  /// The parser quotes the whole of the offending token, which may be megabytes.
  static std::string shortened(std::string_view text) {
    constexpr size_t kLimit = 200;
    return text.size() <= kLimit ? std::string(text) : std::string(text.substr(0, kLimit)) + "...";
  }

  bool fail(std::string message) {
    error = std::move(message);
    return false;
  }

  Value *place(Value value) {
    if (open.empty()) {
      root = std::move(value);
      return &root;
    }
    if (open.back()->isArray())
      return &open.back()->push(std::move(value));
    *slot = std::move(value);
    return slot;
  }

  bool add(Value value) {
    place(std::move(value));
    return true;
  }

  bool start(Value container) {
    if (open.size() >= static_cast<size_t>(kMaxDepth))
      return fail("nesting exceeds the limit of " + std::to_string(kMaxDepth) + " levels");
    open.push_back(place(std::move(container)));
    return true;
  }

  bool finish() {
    open.pop_back();
    return true;
  }

  std::vector<Value *> open;
  Value *slot = nullptr; ///< of the key read last
};

} // namespace

Result<Value> parse(std::string_view text, std::string_view nameForErrors) {
  const char *begin = text.data(), *end = text.data() + text.size(), *reached = begin;
  Builder builder;
  if (nlohmann::json::sax_parse(TrackingIterator(begin, &reached), TrackingIterator(end, &reached),
                                &builder))
    return std::move(builder.root);
  size_t read = builder.errorEnd.value_or(static_cast<size_t>(reached - begin));
  const char *last = begin + std::min(text.size(), read > 0 ? read - 1 : 0);
  auto line = 1 + std::count(begin, last, '\n');
  const char *lineStart = last;
  while (lineStart > begin && lineStart[-1] != '\n')
    --lineStart;
  return dataCorrupt(std::string(nameForErrors) + ": line " + std::to_string(line) + ", column " +
                     std::to_string(last - lineStart + 1) + ": " + builder.error);
}

Result<Value> parseFile(const std::string &path) {
  SLUICE_ASSIGN_OR_RETURN(std::string text, readFile(path));
  return parse(text, path);
}

} // namespace sluice::json
