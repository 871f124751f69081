//===- ChatTemplateValue.cpp - The values of a chat template ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Python's str, repr, json.dumps, == and < for the types a template can have.
//
//===------------------------------------------------------------------------===//
#include "runtime/text/ChatTemplateValue.h"

#include "runtime/base/Format.h"
#include "runtime/text/UnicodeSets.h"
#include "runtime/text/Utf8.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace sluice::text::chat {

// Small values can share parts and be huge when they are printed or compared.
static constexpr size_t kMaxText = 16 << 20;       // bytes of one printed value
static constexpr size_t kMaxComparisons = 4 << 20; // of parts, in one comparison
// Each character of a text that is iterated over becomes a value of some hundred bytes.
static constexpr size_t kMaxIterated = 1 << 20;

void fail(std::string message) { throw TemplateError{TemplateError::kRuntime, std::move(message)}; }
void exceed(std::string message) { throw TemplateError{TemplateError::kLimit, std::move(message)}; }

const Value *Dict::find(const Value &key) const {
  if (const std::string *text = key.string())
    return find(std::string_view(*text));
  for (const auto &[k, v] : items)
    if (equal(k, key))
      return &v;
  return nullptr;
}

const Value *Dict::find(std::string_view key) const {
  for (const auto &[k, v] : items)
    if (const std::string *text = k.string(); text && *text == key)
      return &v;
  return nullptr;
}

Value Value::undefined(std::string hint) {
  return Undefined{std::make_shared<const std::string>(std::move(hint))};
}

static int checkedDepth(int depth) {
  if (depth > kMaxValueDepth)
    exceed(format("values nest deeper than %d", kMaxValueDepth));
  return depth;
}

Value Value::sequence(std::vector<Value> items, Sequence::Kind kind) {
  auto result = std::make_shared<Sequence>();
  result->kind = kind;
  for (const Value &item : items)
    result->depth = std::max(result->depth, checkedDepth(item.depth() + 1));
  result->items = std::move(items);
  return Storage(std::shared_ptr<const Sequence>(std::move(result)));
}

Value Value::dict(std::vector<std::pair<Value, Value>> items) {
  auto result = std::make_shared<Dict>();
  for (auto &[key, value] : items) {
    if (key.sequence() || key.dict() || key.nameSpace())
      fail("unhashable type: '" + std::string(key.typeName()) + "'");
    result->depth = std::max(result->depth, checkedDepth(value.depth() + 1));
    if (const Value *known = result->find(key))
      *const_cast<Value *>(known) = std::move(value);
    else
      result->items.emplace_back(std::move(key), std::move(value));
  }
  return Storage(std::shared_ptr<const Dict>(std::move(result)));
}

Value Value::function(std::string name, std::function<Value(Evaluator &, Arguments &)> call) {
  return Storage(std::make_shared<const Function>(Function{std::move(name), std::move(call)}));
}

static Value fromJsonAt(const json::Value &value, int depth) {
  checkedDepth(depth);
  switch (value.kind()) {
  case json::Kind::kNull:
    return Value();
  case json::Kind::kBool:
    return Value(*value.asBool());
  case json::Kind::kInt:
    return Value(*value.asInt());
  case json::Kind::kUnsigned:
  case json::Kind::kDouble:
    return Value(*value.asDouble());
  case json::Kind::kString:
    return Value(*value.stringIf());
  case json::Kind::kArray: {
    std::vector<Value> items;
    for (const json::Value &item : *value.arrayIf())
      items.push_back(fromJsonAt(item, depth + 1));
    return Value::sequence(std::move(items));
  }
  case json::Kind::kObject: {
    // Keys of a JSON object are unique, so there is nothing to look for.
    auto result = std::make_shared<Dict>();
    for (const json::Member &member : *value.objectIf()) {
      result->items.emplace_back(Value(member.key), fromJsonAt(member.value, depth + 1));
      result->depth =
          std::max(result->depth, checkedDepth(result->items.back().second.depth() + 1));
    }
    return Value::Storage(std::shared_ptr<const Dict>(std::move(result)));
  }
  }
  return Value();
}

Value Value::fromJson(const json::Value &value) { return fromJsonAt(value, 1); }

std::optional<int64_t> Value::integer() const {
  if (auto *b = get<bool>())
    return *b ? 1 : 0;
  if (auto *i = get<int64_t>())
    return *i;
  return std::nullopt;
}

std::optional<double> Value::number() const {
  if (std::optional<int64_t> i = integer())
    return static_cast<double>(*i);
  if (auto *d = get<double>())
    return *d;
  return std::nullopt;
}

bool Value::truthy() const {
  if (isUndefined() || isNone())
    return false;
  if (std::optional<double> n = number())
    return *n != 0;
  if (const std::string *s = string())
    return !s->empty();
  if (const Sequence *s = sequence())
    return s->kind == Sequence::kGenerator || !s->items.empty();
  if (const Dict *d = dict())
    return !d->items.empty();
  return true;
}

int Value::depth() const {
  if (const Sequence *s = sequence())
    return s->depth;
  if (const Dict *d = dict())
    return d->depth;
  return 0;
}

std::string_view Value::typeName() const {
  static constexpr std::string_view names[] = {"Undefined", "NoneType", "bool",       "int",
                                               "float",     "str",      "list",       "dict",
                                               "Namespace", "function", "LoopContext"};
  if (const Sequence *s = sequence())
    return s->kind == Sequence::kTuple  ? "tuple"
           : s->kind == Sequence::kList ? "list"
                                        : "generator";
  return names[storage.index()];
}

bool isPythonSpace(uint32_t c) { return isWhiteSpace(c) || (c >= 0x1C && c <= 0x1F); }

size_t countCodePoints(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

std::string_view stripText(std::string_view text, bool left, bool right,
                           const std::string *characters) {
  auto strips = [&](size_t begin, size_t end) {
    if (characters)
      return characters->find(text.substr(begin, end - begin)) != std::string::npos;
    return isPythonSpace(nextCodePoint(text, begin));
  };
  size_t begin = 0, end = text.size();
  while (left && begin < end) {
    size_t next = begin + codePointSize(text[begin]);
    if (!strips(begin, next))
      break;
    begin = next;
  }
  while (right && begin < end) {
    size_t last = previousCodePoint(text, end);
    if (!strips(last, end))
      break;
    end = last;
  }
  return text.substr(begin, end - begin);
}

std::string floatText(double value) {
  if (std::isnan(value))
    return "nan";
  if (std::isinf(value))
    return value < 0 ? "-inf" : "inf";
  char buffer[64];
  auto [end, error] =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string_view text(buffer, static_cast<size_t>(end - buffer));
  size_t e = text.find('e');
  int exponent = 0;
  const char *digit = text.data() + e + (text[e + 1] == '+' ? 2 : 1); // from_chars knows no plus
  std::from_chars(digit, end, exponent);
  if (exponent < -4 || exponent >= 16)
    return std::string(text); // to_chars writes at least two digits of exponent, as Python does
  std::string out = text[0] == '-' ? "-" : "";
  std::string digits;
  for (char c : text.substr(0, e))
    if (c >= '0' && c <= '9')
      digits += c;
  if (exponent < 0)
    return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  size_t whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole)
    return out + digits + std::string(whole - digits.size(), '0') + ".0";
  return out + digits.substr(0, whole) + "." + digits.substr(whole);
}

namespace {

void bound(const std::string &out) {
  if (out.size() > kMaxText)
    exceed(format("a value prints as more than %zu bytes", kMaxText));
}

void quote(std::string &out, std::string_view text) {
  bool single =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  char mark = single ? '"' : '\'';
  out += mark;
  for (size_t pos = 0; pos < text.size();) {
    size_t start = pos;
    uint32_t c = nextCodePoint(text, pos);
    Category category = generalCategory(c);
    if (c == static_cast<uint32_t>(mark) || c == '\\')
      (out += '\\') += static_cast<char>(c);
    else if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if (c != ' ' && (category == Category::Cn || category >= Category::Zs))
      out += c < 0x100     ? format("\\x%02x", c)
             : c < 0x10000 ? format("\\u%04x", c)
                           : format("\\U%08x", c);
    else
      out += text.substr(start, pos - start);
  }
  out += mark;
}

void repr(std::string &out, const Value &value, int depth) {
  bound(out);
  checkedDepth(depth);
  if (const std::string *s = value.string())
    return quote(out, *s);
  if (const Sequence *s = value.sequence(); s && s->kind != Sequence::kGenerator) {
    bool tuple = s->kind == Sequence::kTuple;
    out += tuple ? '(' : '[';
    for (size_t i = 0; i < s->items.size(); ++i) {
      out += i ? ", " : "";
      repr(out, s->items[i], depth + 1);
    }
    out += tuple ? (s->items.size() == 1 ? ",)" : ")") : "]";
    return;
  }
  auto members = [&](const auto &items) {
    out += '{';
    bool first = true;
    for (const auto &[key, item] : items) {
      out += std::exchange(first, false) ? "" : ", ";
      repr(out, Value(key), depth + 1);
      out += ": ";
      repr(out, item, depth + 1);
    }
    out += '}';
  };
  if (const Dict *d = value.dict())
    return members(d->items);
  if (const Namespace *n = value.nameSpace()) {
    out += "<Namespace ";
    members(n->items);
    out += '>';
    return;
  }
  if (value.isUndefined())
    out += "Undefined";
  else
    out += toText(value);
}

void jsonString(std::string &out, std::string_view text, bool ensureAscii) {
  out += '"';
  for (size_t pos = 0; pos < text.size();) {
    size_t start = pos;
    uint32_t c = nextCodePoint(text, pos);
    static constexpr std::pair<char, const char *> kEscapes[] = {
        {'"', "\\\""}, {'\\', "\\\\"}, {'\n', "\\n"}, {'\r', "\\r"},
        {'\t', "\\t"}, {'\f', "\\f"},  {'\b', "\\b"}};
    auto *escape = std::find_if(std::begin(kEscapes), std::end(kEscapes),
                                [&](auto &e) { return static_cast<uint32_t>(e.first) == c; });
    if (escape != std::end(kEscapes))
      out += escape->second;
    else if (c < 0x20 || (ensureAscii && c > 0x7E && c < 0x10000))
      out += format("\\u%04x", c);
    else if (ensureAscii && c >= 0x10000)
      out += format("\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10), 0xDC00 + (c & 0x3FF));
    else
      out += text.substr(start, pos - start);
  }
  out += '"';
}

std::string jsonKey(const Value &key) {
  if (const std::string *s = key.string())
    return *s;
  if (key.isNone())
    return "null";
  if (auto *b = key.get<bool>())
    return *b ? "true" : "false";
  if (key.number())
    return toText(key);
  fail("keys must be str, int, float, bool or None, not " + std::string(key.typeName()));
}

void jsonText(std::string &out, const Value &value, const JsonFormat &format, size_t level) {
  bound(out);
  checkedDepth(static_cast<int>(level));
  if (value.isNone()) {
    out += "null";
    return;
  }
  if (auto *b = value.get<bool>()) {
    out += *b ? "true" : "false";
    return;
  }
  if (auto *d = value.get<double>(); d && !std::isfinite(*d)) {
    out += std::isnan(*d) ? "NaN" : *d < 0 ? "-Infinity" : "Infinity";
    return;
  }
  if (value.number()) {
    out += toText(value);
    return;
  }
  if (const std::string *s = value.string())
    return jsonString(out, *s, format.ensureAscii);
  const Sequence *sequence = value.sequence();
  const Dict *dict = value.dict();
  if (!dict && (!sequence || sequence->kind == Sequence::kGenerator))
    fail("Object of type " + std::string(value.typeName()) + " is not JSON serializable");
  std::string comma = format.separators ? format.separators->first : format.indent ? "," : ", ";
  std::string colon = format.separators ? format.separators->second : ": ";
  auto line = [&](size_t depth) {
    if (!format.indent)
      return;
    out += '\n';
    for (size_t i = 0; i < depth; ++i)
      out += *format.indent;
  };
  size_t count = dict ? dict->items.size() : sequence->items.size();
  out += dict ? '{' : '[';
  std::vector<const std::pair<Value, Value> *> members;
  if (dict) {
    for (const auto &item : dict->items)
      members.push_back(&item);
    if (format.sortKeys)
      std::stable_sort(members.begin(), members.end(),
                       [](auto *a, auto *b) { return compare(a->first, b->first, "<") < 0; });
  }
  for (size_t i = 0; i < count; ++i) {
    out += i ? comma : "";
    line(level + 1);
    if (dict) {
      jsonString(out, jsonKey(members[i]->first), format.ensureAscii);
      out += colon;
    }
    jsonText(out, dict ? members[i]->second : sequence->items[i], format, level + 1);
  }
  if (count > 0)
    line(level);
  out += dict ? '}' : ']';
}

} // namespace

std::string toRepr(const Value &value) {
  std::string out;
  repr(out, value, 0);
  return out;
}

std::string toText(const Value &value) {
  if (const std::string *s = value.string())
    return *s;
  if (value.isUndefined())
    return "";
  if (value.isNone())
    return "None";
  if (auto *b = value.get<bool>())
    return *b ? "True" : "False";
  if (auto *i = value.get<int64_t>())
    return std::to_string(*i);
  if (auto *d = value.get<double>())
    return floatText(*d);
  if (value.function() || value.loop() ||
      (value.sequence() && value.sequence()->kind == Sequence::kGenerator))
    fail("a " + std::string(value.typeName()) + " has no text");
  return toRepr(value);
}

std::string toJson(const Value &value, const JsonFormat &format) {
  std::string out;
  jsonText(out, value, format, 0);
  return out;
}

static bool equalAt(const Value &a, const Value &b, size_t &steps) {
  if (++steps > kMaxComparisons)
    exceed("a comparison takes too many steps");
  if (std::optional<int64_t> x = a.integer(), y = b.integer(); x && y)
    return *x == *y;
  if (std::optional<double> x = a.number(), y = b.number(); x && y)
    return *x == *y;
  if (const std::string *x = a.string(), *y = b.string(); x && y) {
    steps += std::min(x->size(), y->size()) / 16;
    return *x == *y;
  }
  if (const Sequence *x = a.sequence(), *y = b.sequence(); x && y) {
    if (x == y)
      return true;
    return x->kind == y->kind && x->kind != Sequence::kGenerator &&
           std::equal(x->items.begin(), x->items.end(), y->items.begin(), y->items.end(),
                      [&](const Value &p, const Value &q) { return equalAt(p, q, steps); });
  }
  if (const Dict *x = a.dict(), *y = b.dict(); x && y) {
    if (x == y)
      return true;
    return x->items.size() == y->items.size() &&
           std::all_of(x->items.begin(), x->items.end(), [&](const auto &item) {
             const Value *other = y->find(item.first);
             return other && equalAt(item.second, *other, steps);
           });
  }
  if (a.isNone() || a.isUndefined())
    return a.isNone() ? b.isNone() : b.isUndefined();
  return (a.nameSpace() && a.nameSpace() == b.nameSpace()) ||
         (a.function() && a.function() == b.function());
}

bool equal(const Value &a, const Value &b) {
  size_t steps = 0;
  return equalAt(a, b, steps);
}

int compare(const Value &a, const Value &b, std::string_view symbol) {
  auto order = [](auto x, auto y) { return x < y ? -1 : y < x ? 1 : 0; };
  if (std::optional<int64_t> x = a.integer(), y = b.integer(); x && y)
    return order(*x, *y);
  if (std::optional<double> x = a.number(), y = b.number(); x && y)
    return order(*x, *y);
  // Bytes of UTF-8 order like code points.
  if (const std::string *x = a.string(), *y = b.string(); x && y)
    return x->compare(*y);
  if (const Sequence *x = a.sequence(), *y = b.sequence();
      x && y && x->kind == y->kind && x->kind != Sequence::kGenerator) {
    for (size_t i = 0; i < std::min(x->items.size(), y->items.size()); ++i)
      if (!equal(x->items[i], y->items[i]))
        return compare(x->items[i], y->items[i], symbol);
    return order(x->items.size(), y->items.size());
  }
  for (const Value *side : {&a, &b})
    if (auto *undefined = side->get<Undefined>())
      fail(*undefined->hint);
  fail("'" + std::string(symbol) + "' not supported between instances of '" +
       std::string(a.typeName()) + "' and '" + std::string(b.typeName()) + "'");
}

bool contains(const Value &haystack, const Value &needle) {
  if (const std::string *text = haystack.string()) {
    const std::string *part = needle.string();
    if (!part)
      fail("'in <string>' requires string as left operand, not " + std::string(needle.typeName()));
    return text->find(*part) != std::string::npos;
  }
  if (const Dict *dict = haystack.dict())
    return dict->find(needle) != nullptr;
  std::vector<Value> items = iterate(haystack);
  return std::any_of(items.begin(), items.end(), [&](const Value &v) { return equal(v, needle); });
}

std::vector<Value> iterate(const Value &value) {
  std::vector<Value> items;
  if (const Sequence *s = value.sequence()) {
    if (s->kind != Sequence::kGenerator)
      return s->items;
    items.assign(s->items.begin() + static_cast<ptrdiff_t>(s->next), s->items.end());
    s->next = s->items.size();
    return items;
  }
  if (const Dict *d = value.dict()) {
    for (const auto &[key, item] : d->items)
      items.push_back(key);
    return items;
  }
  if (const std::string *s = value.string()) {
    if (s->size() > kMaxIterated)
      exceed(format("iterating over a text of %zu bytes", s->size()));
    for (size_t pos = 0; pos < s->size();) {
      size_t size = codePointSize((*s)[pos]);
      items.emplace_back(s->substr(pos, size));
      pos += size;
    }
    return items;
  }
  if (value.isUndefined())
    return items;
  fail("'" + std::string(value.typeName()) + "' object is not iterable");
}

int64_t lengthOf(const Value &value) {
  if (const Sequence *s = value.sequence(); s && s->kind != Sequence::kGenerator)
    return static_cast<int64_t>(s->items.size());
  if (const Dict *d = value.dict())
    return static_cast<int64_t>(d->items.size());
  if (const std::string *s = value.string())
    return static_cast<int64_t>(countCodePoints(*s));
  if (value.isUndefined())
    return 0;
  fail("object of type '" + std::string(value.typeName()) + "' has no len()");
}

} // namespace sluice::text::chat
