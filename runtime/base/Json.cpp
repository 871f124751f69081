//===- Json.cpp - The JSON document and its writer --------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Objects hold their members in one vector; a hash index joins it only once there are enough of
// them to pay for it (configurations have dozens of keys, safetensors headers tens of thousands).
//
//===------------------------------------------------------------------------===//
#include "runtime/base/Json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <unordered_map>

namespace sluice::json {

const char *kindName(Kind kind) {
  switch (kind) {
  case Kind::kNull:
    return "null";
  case Kind::kBool:
    return "boolean";
  case Kind::kInt:
  case Kind::kUnsigned:
    return "integer";
  case Kind::kDouble:
    return "number";
  case Kind::kString:
    return "string";
  case Kind::kArray:
    return "array";
  case Kind::kObject:
    return "object";
  }
  return "unknown";
}

/// The length of the well-formed UTF-8 sequence at the start of `text`, 0 when there is none. The
/// ranges of the second byte are table 3-7 of the Unicode standard.
static size_t utf8SequenceLength(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  auto continues = [&](size_t i, uint8_t low = 0x80, uint8_t high = 0xbf) {
    return i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  uint8_t first = byte(0);
  if (first < 0x80)
    return 1;
  if (first >= 0xc2 && first <= 0xdf)
    return continues(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    uint8_t low = first == 0xe0 ? 0xa0 : 0x80, high = first == 0xed ? 0x9f : 0xbf;
    return continues(1, low, high) && continues(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    uint8_t low = first == 0xf0 ? 0x90 : 0x80, high = first == 0xf4 ? 0x8f : 0xbf;
    return continues(1, low, high) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

bool isValidUtf8(std::string_view text) {
  while (!text.empty()) {
    size_t length = utf8SequenceLength(text);
    if (length == 0)
      return false;
    text.remove_prefix(length);
  }
  return true;
}

//===--- Object -------------------------------------------------------------===//

struct Object::Index {
  std::unordered_map<std::string, size_t> positions;
};

/// Below this, comparing the keys one by one is at least as fast as hashing.
static constexpr size_t kIndexThreshold = 16;

Object::Object() = default;
Object::Object(const Object &other)
    : members(other.members), index(other.index ? std::make_unique<Index>(*other.index) : nullptr) {
}
Object::Object(Object &&other) noexcept = default;
Object &Object::operator=(const Object &other) {
  Object copy(other);
  return *this = std::move(copy);
}
Object &Object::operator=(Object &&other) noexcept = default;
Object::~Object() = default;

size_t Object::size() const { return members.size(); }
const Member *Object::begin() const { return members.data(); }
const Member *Object::end() const { return members.data() + members.size(); }

const Value *Object::find(std::string_view key) const {
  if (index) {
    auto it = index->positions.find(std::string(key));
    return it == index->positions.end() ? nullptr : &members[it->second].value;
  }
  for (const Member &member : members)
    if (member.key == key)
      return &member.value;
  return nullptr;
}

Value *Object::find(std::string_view key) {
  return const_cast<Value *>(static_cast<const Object *>(this)->find(key));
}

Value *Object::insert(std::string key, Value value) {
  if (find(key))
    return nullptr;
  if (!index && members.size() >= kIndexThreshold) {
    index = std::make_unique<Index>();
    for (size_t i = 0; i < members.size(); ++i)
      index->positions.emplace(members[i].key, i);
  }
  if (index)
    index->positions.emplace(key, members.size());
  members.push_back({std::move(key), std::move(value)});
  return &members.back().value;
}

//===--- Value --------------------------------------------------------------===//

Value::ObjectBox::ObjectBox() : object(std::make_unique<Object>()) {}
Value::ObjectBox::ObjectBox(Object content)
    : object(std::make_unique<Object>(std::move(content))) {}
// A moved-from box is empty; it copies as an empty object.
Value::ObjectBox::ObjectBox(const ObjectBox &other)
    : object(other.object ? std::make_unique<Object>(*other.object) : std::make_unique<Object>()) {}
Value::ObjectBox::ObjectBox(ObjectBox &&other) noexcept = default;
Value::ObjectBox &Value::ObjectBox::operator=(const ObjectBox &other) {
  ObjectBox copy(other);
  return *this = std::move(copy);
}
Value::ObjectBox &Value::ObjectBox::operator=(ObjectBox &&other) noexcept = default;
Value::ObjectBox::~ObjectBox() = default;

Value::Value() : storage(nullptr) {}
Value::Value(bool value) : storage(value) {}
Value::Value(double value) : storage(value) {}
Value::Value(std::string value) : storage(std::move(value)) {}
Value::Value(std::string_view value) : storage(std::string(value)) {}
Value::Value(const char *value) : storage(std::string(value)) {}
Value::Value(Array value) : storage(std::move(value)) {}
Value::Value(Object value) : storage(ObjectBox(std::move(value))) {}
Value::Value(const Value &other) = default;
// The moved-from value becomes null, never an object without members to point at.
Value::Value(Value &&other) noexcept : storage(std::move(other.storage)) {
  other.storage = nullptr;
}
Value &Value::operator=(const Value &other) = default;
Value &Value::operator=(Value &&other) noexcept {
  // Through a temporary: `other` may be a descendant of this value.
  auto taken = std::move(other.storage);
  other.storage = nullptr;
  storage = std::move(taken);
  return *this;
}
Value::~Value() = default;

Value Value::array() { return Value(Array()); }
Value Value::object() { return Value(Object()); }

Kind Value::kind() const { return static_cast<Kind>(storage.index()); }

static Status wrongKind(Kind wanted, Kind found) {
  return dataCorrupt(std::string("expected ") + kindName(wanted) + ", found " + kindName(found));
}

Result<bool> Value::asBool() const {
  if (const bool *value = std::get_if<bool>(&storage))
    return *value;
  return wrongKind(Kind::kBool, kind());
}

Result<int64_t> Value::asInt() const {
  if (const int64_t *value = std::get_if<int64_t>(&storage))
    return *value;
  if (const uint64_t *value = std::get_if<uint64_t>(&storage))
    return dataCorrupt("integer " + std::to_string(*value) + " exceeds the limit " +
                       std::to_string(INT64_MAX));
  return wrongKind(Kind::kInt, kind());
}

Result<uint64_t> Value::asUnsigned() const {
  if (const uint64_t *value = std::get_if<uint64_t>(&storage))
    return *value;
  if (const int64_t *value = std::get_if<int64_t>(&storage)) {
    if (*value < 0)
      return dataCorrupt("integer " + std::to_string(*value) + " must not be negative");
    return static_cast<uint64_t>(*value);
  }
  return wrongKind(Kind::kUnsigned, kind());
}

Result<double> Value::asDouble() const {
  if (const double *value = std::get_if<double>(&storage))
    return *value;
  if (const int64_t *value = std::get_if<int64_t>(&storage))
    return static_cast<double>(*value);
  if (const uint64_t *value = std::get_if<uint64_t>(&storage))
    return static_cast<double>(*value);
  return wrongKind(Kind::kDouble, kind());
}

Result<std::string> Value::asString() const {
  if (const std::string *value = stringIf())
    return *value;
  return wrongKind(Kind::kString, kind());
}

const std::string *Value::stringIf() const { return std::get_if<std::string>(&storage); }
const Array *Value::arrayIf() const { return std::get_if<Array>(&storage); }
Array *Value::arrayIf() { return std::get_if<Array>(&storage); }
const Object *Value::objectIf() const {
  const ObjectBox *box = std::get_if<ObjectBox>(&storage);
  return box ? box->object.get() : nullptr;
}
Object *Value::objectIf() {
  ObjectBox *box = std::get_if<ObjectBox>(&storage);
  return box ? box->object.get() : nullptr;
}

const Value *Value::find(std::string_view key) const {
  const Object *object = objectIf();
  return object ? object->find(key) : nullptr;
}

size_t Value::size() const {
  if (const Array *elements = arrayIf())
    return elements->size();
  if (const Object *object = objectIf())
    return object->size();
  return 0;
}

Value &Value::set(std::string_view key, Value value) {
  if (isNull())
    *this = object();
  Object *members = objectIf();
  assert(members && "set() on a value that is no object");
  if (Value *existing = members->find(key)) {
    *existing = std::move(value);
    return *existing;
  }
  return *members->insert(std::string(key), std::move(value));
}

Value &Value::push(Value value) {
  if (isNull())
    *this = array();
  Array *elements = arrayIf();
  assert(elements && "push() on a value that is no array");
  elements->push_back(std::move(value));
  return elements->back();
}

Result<bool> Value::getBool(std::string_view key) const { return Cursor(*this).getBool(key); }
Result<int64_t> Value::getInt(std::string_view key) const { return Cursor(*this).getInt(key); }
Result<double> Value::getDouble(std::string_view key) const { return Cursor(*this).getDouble(key); }
Result<std::string> Value::getString(std::string_view key) const {
  return Cursor(*this).getString(key);
}

static bool equal(const Object &a, const Object &b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](const Member &x, const Member &y) {
           return x.key == y.key && x.value == y.value;
         });
}

bool operator==(const Value &a, const Value &b) {
  if (a.storage.index() != b.storage.index())
    return false;
  if (const Object *object = a.objectIf())
    return equal(*object, *b.objectIf());
  if (const Array *elements = a.arrayIf())
    return *elements == *b.arrayIf();
  switch (a.kind()) {
  case Kind::kBool:
    return std::get<bool>(a.storage) == std::get<bool>(b.storage);
  case Kind::kInt:
    return std::get<int64_t>(a.storage) == std::get<int64_t>(b.storage);
  case Kind::kUnsigned:
    return std::get<uint64_t>(a.storage) == std::get<uint64_t>(b.storage);
  case Kind::kDouble:
    return std::get<double>(a.storage) == std::get<double>(b.storage);
  case Kind::kString:
    return *a.stringIf() == *b.stringIf();
  default:
    return true; // null
  }
}

//===--- Writer -------------------------------------------------------------===//

static void appendString(std::string &out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  while (!text.empty()) {
    size_t length = utf8SequenceLength(text);
    char c = text[0];
    if (length == 0) {
      out += "\xef\xbf\xbd"; // U+FFFD
      length = 1;
    } else if (length > 1) {
      out += text.substr(0, length);
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += "\\u00";
      out += kHex[c >> 4];
      out += kHex[c & 15];
    } else {
      out += c;
    }
    text.remove_prefix(length);
  }
  out += '"';
}

static void appendDouble(std::string &out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  char digits[32];
  auto [end, error] = std::to_chars(digits, digits + sizeof digits, value);
  assert(error == std::errc() && "the shortest form of a double has at most 24 characters");
  std::string_view text(digits, static_cast<size_t>(end - digits));
  out += text;
  if (text.find_first_of(".e") == std::string_view::npos)
    out += ".0"; // otherwise it would read back as an integer
}

static void newLine(std::string &out, int indent, int depth) {
  if (indent <= 0)
    return;
  out += '\n';
  out.append(static_cast<size_t>(indent) * static_cast<size_t>(depth), ' ');
}

static void append(std::string &out, const Value &value, int indent, int depth) {
  const char *comma = indent > 0 ? "," : ", ";
  if (const Object *object = value.objectIf()) {
    out += '{';
    for (const Member &member : *object) {
      if (&member != object->begin())
        out += comma;
      newLine(out, indent, depth + 1);
      appendString(out, member.key);
      out += ": ";
      append(out, member.value, indent, depth + 1);
    }
    if (!object->empty())
      newLine(out, indent, depth);
    out += '}';
  } else if (const Array *elements = value.arrayIf()) {
    out += '[';
    for (const Value &element : *elements) {
      if (&element != elements->data())
        out += comma;
      newLine(out, indent, depth + 1);
      append(out, element, indent, depth + 1);
    }
    if (!elements->empty())
      newLine(out, indent, depth);
    out += ']';
  } else if (const std::string *text = value.stringIf()) {
    appendString(out, *text);
  } else if (value.kind() == Kind::kBool) {
    out += *value.asBool() ? "true" : "false";
  } else if (value.kind() == Kind::kInt) {
    out += std::to_string(*value.asInt());
  } else if (value.kind() == Kind::kUnsigned) {
    out += std::to_string(*value.asUnsigned());
  } else if (value.kind() == Kind::kDouble) {
    appendDouble(out, *value.asDouble());
  } else {
    out += "null";
  }
}

std::string Value::dump(int indent) const {
  std::string out;
  append(out, *this, indent, 0);
  return out;
}

//===--- Cursor -------------------------------------------------------------===//

Status Cursor::error(std::string_view message) const {
  std::string text = doc.empty() ? "" : doc + ": ";
  if (!keys.empty())
    text += "key \"" + keys + "\": ";
  return dataCorrupt(text.append(message));
}

Status Cursor::locate(const Status &status) const {
  Status located = error(status.message());
  return Status(status.code(), std::string(located.message()));
}

Status Cursor::expected(Kind kind) const { return locate(wrongKind(kind, val->kind())); }

Cursor Cursor::child(const Value &value, std::string_view key) const {
  Cursor result(value, doc);
  result.keys = keys.empty() ? std::string(key) : keys + "." + std::string(key);
  return result;
}

bool Cursor::has(std::string_view key) const {
  const Value *member = val->find(key);
  return member && !member->isNull();
}

Result<Cursor> Cursor::get(std::string_view key) const {
  if (!val->isObject())
    return expected(Kind::kObject);
  const Value *member = val->find(key);
  if (member)
    return child(*member, key);
  std::string path = child(*val, key).keys;
  return notFound((doc.empty() ? "" : doc + ": ") + "key \"" + path + "\" is missing");
}

Result<Cursor> Cursor::getObject(std::string_view key) const {
  SLUICE_ASSIGN_OR_RETURN(Cursor member, get(key));
  if (!member.val->isObject())
    return member.expected(Kind::kObject);
  return member;
}

Result<Cursor> Cursor::getArray(std::string_view key) const {
  SLUICE_ASSIGN_OR_RETURN(Cursor member, get(key));
  if (!member.val->isArray())
    return member.expected(Kind::kArray);
  return member;
}

Result<bool> Cursor::getBool(std::string_view key) const {
  SLUICE_ASSIGN_OR_RETURN(Cursor member, get(key));
  return member.asBool();
}
Result<int64_t> Cursor::getInt(std::string_view key) const {
  SLUICE_ASSIGN_OR_RETURN(Cursor member, get(key));
  return member.asInt();
}
Result<double> Cursor::getDouble(std::string_view key) const {
  SLUICE_ASSIGN_OR_RETURN(Cursor member, get(key));
  return member.asDouble();
}
Result<std::string> Cursor::getString(std::string_view key) const {
  SLUICE_ASSIGN_OR_RETURN(Cursor member, get(key));
  return member.asString();
}

Result<Cursor> Cursor::element(size_t position) const {
  const Array *elements = val->arrayIf();
  if (!elements)
    return expected(Kind::kArray);
  if (position >= elements->size())
    return locate(notFound("element " + std::to_string(position) +
                           " does not exist, the array has " + std::to_string(elements->size())));
  Cursor result((*elements)[position], doc);
  result.keys = keys + "[" + std::to_string(position) + "]";
  return result;
}

/// The elements of the array at `cursor`, each read by `read`.
template <typename T, typename Read>
static Result<std::vector<T>> readArray(Result<Cursor> cursor, Read read) {
  if (!cursor.isOk())
    return cursor.status();
  std::vector<T> result;
  result.reserve(cursor->value().size());
  for (size_t i = 0; i < cursor->value().size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(Cursor element, cursor->element(i));
    SLUICE_ASSIGN_OR_RETURN(T value, read(element));
    result.push_back(std::move(value));
  }
  return result;
}

Result<std::vector<int64_t>> Cursor::getIntArray(std::string_view key) const {
  return readArray<int64_t>(getArray(key), [](const Cursor &c) { return c.asInt(); });
}
Result<std::vector<double>> Cursor::getDoubleArray(std::string_view key) const {
  return readArray<double>(getArray(key), [](const Cursor &c) { return c.asDouble(); });
}
Result<std::vector<std::string>> Cursor::getStringArray(std::string_view key) const {
  return readArray<std::string>(getArray(key), [](const Cursor &c) { return c.asString(); });
}

Result<bool> Cursor::getBoolOr(std::string_view key, bool fallback) const {
  return has(key) ? getBool(key) : Result<bool>(fallback);
}
Result<int64_t> Cursor::getIntOr(std::string_view key, int64_t fallback) const {
  return has(key) ? getInt(key) : Result<int64_t>(fallback);
}
Result<double> Cursor::getDoubleOr(std::string_view key, double fallback) const {
  return has(key) ? getDouble(key) : Result<double>(fallback);
}
Result<std::string> Cursor::getStringOr(std::string_view key, std::string_view fallback) const {
  return has(key) ? getString(key) : Result<std::string>(std::string(fallback));
}

} // namespace sluice::json
