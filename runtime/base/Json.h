//===- Json.h - A small JSON document ---------------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Configurations, safetensors headers, tokenizers and reports are JSON. This is our own document
// type, with nlohmann-json's parser behind it in the .cpp only: that header needs exceptions, which
// the compiler side is built without. Members keep the order of the text, so that what we write is
// as deterministic as what we read; errors carry line and column, or the path of the key.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_BASE_JSON_H
#define SLUICE_RUNTIME_BASE_JSON_H

#include "sluice/status.h"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace sluice::json {

class Object;
class Value;
using Array = std::vector<Value>;

/// What a Value holds. An integer outside int64 but within uint64 is kUnsigned; one outside both is
/// kDouble, as is every number written with a fraction or an exponent.
enum class Kind { kNull, kBool, kInt, kUnsigned, kDouble, kString, kArray, kObject };

/// "null", "boolean", "integer", "number", "string", "array" or "object".
const char *kindName(Kind kind);

/// True when `text` is well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms).
bool isValidUtf8(std::string_view text);

/// One JSON value; a regular type (deep copies). Distinct values may be used from distinct threads,
/// one value by many readers.
class Value {
public:
  Value();
  Value(std::nullptr_t) : Value() {}
  Value(bool value);
  /// Any integer; an unsigned one above INT64_MAX becomes kUnsigned.
  template <std::integral T>
  requires(!std::same_as<T, bool>) Value(T value) : Value() {
    if (std::unsigned_integral<T> && static_cast<uint64_t>(value) > uint64_t(INT64_MAX))
      storage = static_cast<uint64_t>(value);
    else
      storage = static_cast<int64_t>(value);
  }
  Value(double value);
  Value(std::string value);
  Value(std::string_view value);
  Value(const char *value);
  Value(Array value);
  Value(Object value);
  Value(const Value &other);
  Value(Value &&other) noexcept;
  Value &operator=(const Value &other);
  Value &operator=(Value &&other) noexcept;
  ~Value();

  /// An empty array or object to be filled.
  static Value array();
  static Value object();

  Kind kind() const;
  bool isNull() const { return kind() == Kind::kNull; }
  bool isBool() const { return kind() == Kind::kBool; }
  /// An integer of either sign (kInt or kUnsigned).
  bool isInt() const { return kind() == Kind::kInt || kind() == Kind::kUnsigned; }
  bool isNumber() const { return isInt() || kind() == Kind::kDouble; }
  bool isString() const { return kind() == Kind::kString; }
  bool isArray() const { return kind() == Kind::kArray; }
  bool isObject() const { return kind() == Kind::kObject; }

  /// The content, or kDataCorrupt "expected integer, found string". asDouble() takes integers too;
  /// asInt() refuses what int64 cannot hold, asUnsigned() what is negative.
  Result<bool> asBool() const;
  Result<int64_t> asInt() const;
  Result<uint64_t> asUnsigned() const;
  Result<double> asDouble() const;
  Result<std::string> asString() const;

  /// The content in place, or null when this is of another kind. Valid as long as this value is
  /// neither changed nor destroyed.
  const std::string *stringIf() const;
  const Array *arrayIf() const;
  Array *arrayIf();
  const Object *objectIf() const;
  Object *objectIf();

  /// The member `key`; null when this is no object or has no such member. Constant time.
  const Value *find(std::string_view key) const;
  /// Elements of an array or members of an object; 0 for every other kind.
  size_t size() const;

  /// Sets or replaces a member; null becomes an object first. Must not be called on other kinds.
  Value &set(std::string_view key, Value value);
  /// Appends an element; null becomes an array first. Must not be called on other kinds.
  Value &push(Value value);

  /// Typed members, as Cursor's of the same names with a path that starts here.
  Result<bool> getBool(std::string_view key) const;
  Result<int64_t> getInt(std::string_view key) const;
  Result<double> getDouble(std::string_view key) const;
  Result<std::string> getString(std::string_view key) const;

  /// The value as JSON text: one line when `indent` is 0, else one line per element, indented by
  /// that many spaces. Deterministic: members in their order, doubles in the shortest form that
  /// reads back equal (always with a fraction or an exponent). A double that is not finite becomes
  /// null and a byte that is not UTF-8 becomes U+FFFD, since JSON has neither.
  std::string dump(int indent = 0) const;

  friend bool operator==(const Value &a, const Value &b);

private:
  struct ObjectBox {
    ObjectBox();
    explicit ObjectBox(Object object);
    ObjectBox(const ObjectBox &other);
    ObjectBox(ObjectBox &&other) noexcept;
    ObjectBox &operator=(const ObjectBox &other);
    ObjectBox &operator=(ObjectBox &&other) noexcept;
    ~ObjectBox();
    std::unique_ptr<Object> object;
  };
  // In the order of Kind.
  std::variant<std::nullptr_t, bool, int64_t, uint64_t, double, std::string, Array, ObjectBox>
      storage;
};

struct Member;

/// The members of an object in the order in which they were added, with constant-time look-up.
class Object {
public:
  Object();
  Object(const Object &other);
  Object(Object &&other) noexcept;
  Object &operator=(const Object &other);
  Object &operator=(Object &&other) noexcept;
  ~Object();

  size_t size() const;
  bool empty() const { return size() == 0; }
  const Value *find(std::string_view key) const;
  Value *find(std::string_view key);
  /// Adds a member and returns its value, or null when there is already one of that name.
  Value *insert(std::string key, Value value);

  const Member *begin() const;
  const Member *end() const;

private:
  struct Index;
  std::vector<Member> members;
  std::unique_ptr<Index> index; ///< only for large objects
};

struct Member {
  std::string key;
  Value value;
};

/// A value together with where it stands: the name of its document and the path of keys that leads
/// to it. Every error of a typed getter names both:
///   config.json: key "rope_scaling.factor": expected number, found string
///   config.json: key "hidden_size" is missing
/// (kDataCorrupt and kNotFound). Borrows the value, which must outlive it.
class Cursor {
public:
  explicit Cursor(const Value &value, std::string document = "") : val(&value), doc(document) {}

  const Value &value() const { return *val; }
  /// The keys from the root, "rope_scaling.factor" or "layers[3]"; empty at the root.
  const std::string &path() const { return keys; }
  const std::string &document() const { return doc; }

  /// True when this is an object with a member `key` that is not null. Model configurations write
  /// null for "not set".
  bool has(std::string_view key) const;

  Result<Cursor> get(std::string_view key) const;
  Result<Cursor> getObject(std::string_view key) const;
  Result<Cursor> getArray(std::string_view key) const;
  Result<bool> getBool(std::string_view key) const;
  Result<int64_t> getInt(std::string_view key) const;
  Result<double> getDouble(std::string_view key) const;
  Result<std::string> getString(std::string_view key) const;
  Result<std::vector<int64_t>> getIntArray(std::string_view key) const;
  Result<std::vector<double>> getDoubleArray(std::string_view key) const;
  Result<std::vector<std::string>> getStringArray(std::string_view key) const;

  /// The same with a fallback for a key that is missing or null; a wrong kind is still an error.
  Result<bool> getBoolOr(std::string_view key, bool fallback) const;
  Result<int64_t> getIntOr(std::string_view key, int64_t fallback) const;
  Result<double> getDoubleOr(std::string_view key, double fallback) const;
  Result<std::string> getStringOr(std::string_view key, std::string_view fallback) const;

  /// Element `index` of an array.
  Result<Cursor> element(size_t index) const;

  Result<bool> asBool() const { return located(val->asBool()); }
  Result<int64_t> asInt() const { return located(val->asInt()); }
  Result<double> asDouble() const { return located(val->asDouble()); }
  Result<std::string> asString() const { return located(val->asString()); }

  /// kDataCorrupt with this place before `message`, for checks of the caller's own:
  /// `config.json: key "top_k": 9 exceeds the number of experts 8`.
  Status error(std::string_view message) const;

private:
  template <typename T> Result<T> located(Result<T> result) const {
    return result.isOk() ? std::move(result) : Result<T>(locate(result.status()));
  }
  Status locate(const Status &status) const;
  Cursor child(const Value &value, std::string_view key) const;
  Status expected(Kind kind) const;

  const Value *val;
  std::string doc, keys;
};

/// The deepest nesting of arrays and objects that parse() accepts.
inline constexpr int kMaxDepth = 256;

/// Parses one JSON document (RFC 8259, strict: no comments, no trailing commas). Refuses duplicate
/// keys, nesting deeper than kMaxDepth and text that is not UTF-8. Errors are kDataCorrupt and
/// begin with `<nameForErrors>: line L, column C: ` (1-based; columns count bytes).
Result<Value> parse(std::string_view text, std::string_view nameForErrors);

/// Reads and parses a file; errors name it by its path.
Result<Value> parseFile(const std::string &path);

} // namespace sluice::json

#endif // SLUICE_RUNTIME_BASE_JSON_H
