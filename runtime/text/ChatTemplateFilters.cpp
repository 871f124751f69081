//===- ChatTemplateFilters.cpp - Filters and tests of chat templates --------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The built-in filters and tests of Jinja that make sense in a chat template, and tojson as
// transformers replaces it. Filters that Jinja writes as generators give generators here too: they
// are true when empty and can be read once.
//
//===------------------------------------------------------------------------===//
#include "runtime/base/Format.h"
#include "runtime/text/ChatTemplateEvaluator.h"
#include "runtime/text/Utf8.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace sluice::text::chat {
namespace {

using FilterFunction = Value (*)(Evaluator &, const Value &, Arguments &);
using TestFunction = bool (*)(Evaluator &, const Value &, Arguments &);

Value list(std::vector<Value> items) { return Value::sequence(std::move(items)); }
Value generator(std::vector<Value> items) {
  return Value::sequence(std::move(items), Sequence::kGenerator);
}

std::vector<Value> itemsOf(Evaluator &evaluator, const Value &value) {
  std::vector<Value> items = iterate(value);
  evaluator.charge(items.size() * sizeof(Value));
  return items;
}

/// "a.b.0" of a value, as map(attribute=...) and its kin read it; `fallback` replaces what is
/// missing on the way.
Value path(Evaluator &evaluator, Value value, const Value &name,
           const std::optional<Value> &fallback = std::nullopt) {
  auto step = [&](const Value &part) {
    value = evaluator.item(value, part);
    if (value.isUndefined() && fallback && !fallback->isNone())
      value = *fallback;
  };
  if (name.integer()) {
    step(name);
    return value;
  }
  std::string text = toText(name);
  for (size_t start = 0; start <= text.size();) {
    size_t dot = std::min(text.find('.', start), text.size());
    std::string part = text.substr(start, dot - start);
    bool digits = !part.empty() && part.size() < 10 &&
                  part.find_first_not_of("0123456789") == std::string::npos;
    step(digits ? Value(int64_t(std::stoll(part))) : Value(part));
    start = dot + 1;
  }
  return value;
}

/// Lower case for comparisons that ignore case, unless `sensitive`.
Value sortKey(const Value &value, bool sensitive) {
  const std::string *text = value.string();
  return text && !sensitive ? Value(lowerText(*text)) : value;
}

void sortBy(Evaluator &evaluator, std::vector<std::pair<Value, Value>> &keyed, bool reverse) {
  evaluator.charge(keyed.size() * 16);
  if (reverse)
    std::reverse(keyed.begin(), keyed.end());
  std::stable_sort(keyed.begin(), keyed.end(),
                   [](const auto &a, const auto &b) { return compare(a.first, b.first, "<") < 0; });
  if (reverse)
    std::reverse(keyed.begin(), keyed.end());
}

std::vector<std::pair<Value, Value>> keyed(Evaluator &evaluator, const Value &value,
                                           const std::optional<Value> &attribute, bool sensitive) {
  std::vector<std::pair<Value, Value>> result;
  for (Value &item : itemsOf(evaluator, value)) {
    Value key = attribute && !attribute->isNone() ? path(evaluator, item, *attribute) : item;
    result.emplace_back(sortKey(key, sensitive), std::move(item));
  }
  return result;
}

Arguments shifted(const Arguments &arguments, size_t count, std::string callee) {
  Arguments rest;
  rest.callee = std::move(callee);
  rest.positional.assign(arguments.positional.begin() +
                             static_cast<ptrdiff_t>(std::min(count, arguments.positional.size())),
                         arguments.positional.end());
  rest.keyword = arguments.keyword;
  return rest;
}

/// select, reject (`attribute` false) and selectattr, rejectattr.
Value choose(Evaluator &evaluator, const Value &value, Arguments &arguments, bool attribute,
             bool keep) {
  size_t first = attribute ? 1 : 0;
  Value name = attribute ? arguments.require(0, "attribute") : Value();
  std::string test =
      arguments.positional.size() > first ? toText(arguments.positional[first]) : std::string();
  if (!test.empty() && !isTest(test))
    fail("no test named '" + test + "'");
  std::vector<Value> kept;
  for (Value &item : itemsOf(evaluator, value)) {
    Value subject = attribute ? path(evaluator, item, name) : item;
    Arguments rest = shifted(arguments, first + 1, test);
    bool holds = test.empty() ? subject.truthy() : evaluator.applyTest(test, subject, rest);
    if (holds == keep)
      kept.push_back(std::move(item));
  }
  return generator(std::move(kept));
}

Value mapFilter(Evaluator &evaluator, const Value &value, Arguments &arguments) {
  std::vector<Value> mapped;
  if (arguments.positional.empty()) {
    Value name = arguments.require(0, "attribute");
    std::optional<Value> fallback;
    for (const auto &[key, argument] : arguments.keyword)
      if (key == "default")
        fallback = argument;
      else if (key != "attribute")
        fail("map() got an unexpected argument '" + key + "'");
    for (Value &item : itemsOf(evaluator, value))
      mapped.push_back(path(evaluator, item, name, fallback));
    return generator(std::move(mapped));
  }
  std::string name = toText(arguments.positional[0]);
  if (!isFilter(name))
    fail("no filter named '" + name + "'");
  for (Value &item : itemsOf(evaluator, value)) {
    Arguments rest = shifted(arguments, 1, name);
    mapped.push_back(evaluator.applyFilter(name, item, rest));
  }
  return generator(std::move(mapped));
}

Value tojson(Evaluator &evaluator, const Value &value, Arguments &arguments) {
  arguments.only({"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonFormat format;
  format.ensureAscii = arguments.flag(0, "ensure_ascii", false);
  format.sortKeys = arguments.flag(3, "sort_keys", false);
  if (std::optional<Value> indent = arguments.take(1, "indent"); indent && !indent->isNone()) {
    const std::string *text = indent->string();
    format.indent = text ? *text
                         : std::string(static_cast<size_t>(std::clamp<int64_t>(
                                           arguments.integer(1, "indent", 0), 0, 64)),
                                       ' ');
  }
  if (std::optional<Value> given = arguments.take(2, "separators"); given && !given->isNone()) {
    std::vector<Value> pair = iterate(*given);
    if (pair.size() != 2 || !pair[0].string() || !pair[1].string())
      fail("tojson(): separators must be a pair of strings");
    format.separators = {*pair[0].string(), *pair[1].string()};
  }
  return evaluator.text(toJson(value, format));
}

Value toInteger(Evaluator &, const Value &value, Arguments &arguments) {
  arguments.only({"default", "base"});
  Value fallback = arguments.takeOr(0, "default", Value(int64_t(0)));
  if (auto *real = value.get<double>())
    return std::isfinite(*real) && std::fabs(*real) < 9e18 ? Value(static_cast<int64_t>(*real))
                                                           : fallback;
  if (std::optional<int64_t> integer = value.integer())
    return Value(*integer);
  const std::string *string = value.string();
  if (!string)
    return fallback;
  std::string text(stripText(*string, true, true, nullptr));
  std::erase(text, '_');
  int64_t base = arguments.integer(1, "base", 10);
  if (base != 0 && (base < 2 || base > 36))
    return fallback;
  char *end = nullptr;
  errno = 0;
  long long integer = std::strtoll(text.c_str(), &end, static_cast<int>(base));
  if (!text.empty() && *end == 0 && errno == 0)
    return Value(int64_t(integer));
  double real = std::strtod(text.c_str(), &end);
  if (!text.empty() && *end == 0 && std::isfinite(real) && std::fabs(real) < 9e18)
    return Value(static_cast<int64_t>(real));
  return fallback;
}

Value toFloat(Evaluator &, const Value &value, Arguments &arguments) {
  arguments.only({"default"});
  Value fallback = arguments.takeOr(0, "default", Value(0.0));
  if (std::optional<double> number = value.number())
    return Value(*number);
  const std::string *string = value.string();
  std::string text(string ? stripText(*string, true, true, nullptr) : "");
  char *end = nullptr;
  double real = std::strtod(text.c_str(), &end);
  return !text.empty() && *end == 0 ? Value(real) : fallback;
}

Value roundFilter(Evaluator &, const Value &value, Arguments &arguments) {
  arguments.only({"precision", "method"});
  std::optional<double> number = value.number();
  std::string method = arguments.text(1, "method", "common");
  int64_t precision = arguments.integer(0, "precision", 0);
  if (!number || (method != "common" && method != "ceil" && method != "floor") || precision < 0 ||
      precision > 15)
    fail("round() needs a number, a precision of 0 to 15 and a method common, ceil or floor");
  double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil")
    return Value(std::ceil(*number * scale) / scale);
  if (method == "floor")
    return Value(std::floor(*number * scale) / scale);
  if (value.integer())
    return Value(*value.integer());
  // Decimal rounding of the shortest text is not what Python does: it rounds the exact value.
  return Value(std::strtod(format("%.*f", static_cast<int>(precision), *number).c_str(), nullptr));
}

Value titleFilter(Evaluator &evaluator, const Value &value, Arguments &arguments) {
  arguments.only({});
  std::string text = toText(value), out, word;
  auto flush = [&] {
    out += capitalizeText(word);
    word.clear();
  };
  for (size_t pos = 0; pos < text.size();) {
    size_t start = pos;
    uint32_t c = nextCodePoint(text, pos);
    bool separates =
        isPythonSpace(c) || (c < 0x80 && std::string_view("-({[<").find(static_cast<char>(c)) !=
                                             std::string_view::npos);
    if (separates) {
      flush();
      out += text.substr(start, pos - start);
    } else {
      word += text.substr(start, pos - start);
    }
  }
  flush();
  return evaluator.text(std::move(out));
}

Value indentFilter(Evaluator &evaluator, const Value &value, Arguments &arguments) {
  arguments.only({"width", "first", "blank"});
  Value width = arguments.takeOr(0, "width", Value(int64_t(4)));
  std::string margin = width.string() ? *width.string()
                                      : std::string(static_cast<size_t>(std::clamp<int64_t>(
                                                        arguments.integer(0, "width", 4), 0, 1000)),
                                                    ' ');
  bool first = arguments.flag(1, "first", false), blank = arguments.flag(2, "blank", false);
  std::string text = toText(value), out;
  evaluator.charge(text.size());
  // Jinja adds a line end and drops the last line again.
  bool atFirst = true;
  for (size_t start = 0; start <= text.size();) {
    size_t end = std::min(text.find('\n', start), text.size());
    std::string_view line = std::string_view(text).substr(start, end - start);
    if (!atFirst)
      out += '\n';
    if (atFirst ? first : (blank || !line.empty()))
      out += margin;
    out += line;
    evaluator.charge(margin.size());
    atFirst = false;
    start = end + 1;
  }
  return Value(std::move(out));
}

Value escapeFilter(Evaluator &evaluator, const Value &value, Arguments &) {
  std::string out;
  for (char c : toText(value))
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&#34;";
    else if (c == '\'')
      out += "&#39;";
    else
      out += c;
  return evaluator.text(std::move(out));
}

Value extreme(Evaluator &evaluator, const Value &value, Arguments &arguments, int sign) {
  arguments.only({"case_sensitive", "attribute"});
  auto items = keyed(evaluator, value, arguments.take(1, "attribute"),
                     arguments.flag(0, "case_sensitive", false));
  if (items.empty())
    return Value::undefined("no aggregated item, sequence was empty");
  size_t best = 0;
  for (size_t i = 1; i < items.size(); ++i)
    if (compare(items[i].first, items[best].first, "<") * sign < 0)
      best = i;
  return items[best].second;
}

Value sumFilter(Evaluator &evaluator, const Value &value, Arguments &arguments) {
  arguments.only({"attribute", "start"});
  std::optional<Value> attribute = arguments.take(0, "attribute");
  Value total = arguments.takeOr(1, "start", Value(int64_t(0)));
  for (const Value &item : itemsOf(evaluator, value))
    total = evaluator.binary(
        "+", total, attribute && !attribute->isNone() ? path(evaluator, item, *attribute) : item);
  return total;
}

Value uniqueFilter(Evaluator &evaluator, const Value &value, Arguments &arguments) {
  arguments.only({"case_sensitive", "attribute"});
  std::vector<Value> seen, kept;
  for (auto &[key, item] : keyed(evaluator, value, arguments.take(1, "attribute"),
                                 arguments.flag(0, "case_sensitive", false))) {
    evaluator.charge(seen.size());
    if (std::any_of(seen.begin(), seen.end(), [&k = key](const Value &v) { return equal(v, k); }))
      continue;
    seen.push_back(key);
    kept.push_back(std::move(item));
  }
  return generator(std::move(kept));
}

Value itemsFilter(Evaluator &evaluator, const Value &value, Arguments &arguments) {
  arguments.only({});
  std::vector<Value> pairs;
  if (const Dict *dict = value.dict()) {
    evaluator.charge(dict->items.size());
    for (const auto &[key, item] : dict->items)
      pairs.push_back(Value::sequence({key, item}, Sequence::kTuple));
  } else if (!value.isUndefined()) {
    fail("Can only get item pairs from a mapping.");
  }
  return generator(std::move(pairs));
}

Value dictsort(Evaluator &evaluator, const Value &value, Arguments &arguments) {
  arguments.only({"case_sensitive", "by", "reverse"});
  const Dict *dict = value.dict();
  std::string by = arguments.text(1, "by", "key");
  if (!dict || (by != "key" && by != "value"))
    fail("dictsort() needs a mapping and by=\"key\" or by=\"value\"");
  bool sensitive = arguments.flag(0, "case_sensitive", false);
  std::vector<std::pair<Value, Value>> entries;
  for (const auto &[key, item] : dict->items)
    entries.emplace_back(sortKey(by == "key" ? key : item, sensitive),
                         Value::sequence({key, item}, Sequence::kTuple));
  sortBy(evaluator, entries, arguments.flag(2, "reverse", false));
  std::vector<Value> pairs;
  for (auto &entry : entries)
    pairs.push_back(std::move(entry.second));
  return list(std::move(pairs));
}

struct NamedFilter {
  std::string_view name;
  FilterFunction function;
};

constexpr NamedFilter kFilters[] = {
    {
        "abs",
        [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
          arguments.only({});
          std::optional<double> number = value.number();
          if (!number)
            fail("bad operand type for abs(): '" + std::string(value.typeName()) + "'");
          return *number < 0 ? evaluator.binary("*", value, Value(int64_t(-1))) : value;
        } // namespace
    }     // namespace sluice::text::chat
    ,
    {"attr",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       arguments.only({"name"});
       return evaluator.attribute(value, arguments.text(0, "name", ""));
     }},
    {"capitalize",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       arguments.only({});
       return evaluator.text(capitalizeText(toText(value)));
     }},
    {"default",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       arguments.only({"default_value", "boolean"});
       bool replaced =
           value.isUndefined() || (arguments.flag(1, "boolean", false) && !value.truthy());
       return replaced ? arguments.takeOr(0, "default_value", Value("")) : value;
     }},
    {"dictsort", dictsort},
    {"escape", escapeFilter},
    {"first",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       arguments.only({});
       if (const Sequence *s = value.sequence(); s && s->kind == Sequence::kGenerator)
         return s->next < s->items.size() ? s->items[s->next++]
                                          : Value::undefined("no first item, sequence was empty");
       std::vector<Value> items = itemsOf(evaluator, value);
       return items.empty() ? Value::undefined("no first item, sequence was empty") : items[0];
     }},
    {"float", toFloat},
    {"format",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       return evaluator.text(printfText(evaluator, toText(value), arguments.positional));
     }},
    {"indent", indentFilter},
    {"int", toInteger},
    {"items", itemsFilter},
    {"join",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       arguments.only({"d", "attribute"});
       std::vector<Value> items = itemsOf(evaluator, value);
       if (std::optional<Value> attribute = arguments.take(1, "attribute");
           attribute && !attribute->isNone())
         for (Value &item : items)
           item = path(evaluator, item, *attribute);
       return Value(joinText(evaluator, items, toText(arguments.takeOr(0, "d", Value("")))));
     }},
    {"last",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       arguments.only({});
       if (const Sequence *s = value.sequence(); s && s->kind == Sequence::kGenerator)
         fail("'generator' object is not reversible");
       std::vector<Value> items = itemsOf(evaluator, value);
       return items.empty() ? Value::undefined("no last item, sequence was empty") : items.back();
     }},
    {"length",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       arguments.only({});
       return Value(lengthOf(value));
     }},
    {"list",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       arguments.only({});
       return list(itemsOf(evaluator, value));
     }},
    {"lower",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       arguments.only({});
       return evaluator.text(lowerText(toText(value)));
     }},
    {"map", mapFilter},
    {"max",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       return extreme(evaluator, value, arguments, -1);
     }},
    {"min",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       return extreme(evaluator, value, arguments, 1);
     }},
    {"reject",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       return choose(evaluator, value, arguments, false, false);
     }},
    {"rejectattr",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       return choose(evaluator, value, arguments, true, false);
     }},
    {"replace",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       arguments.only({"old", "new", "count"});
       std::string text = toText(value), to = toText(arguments.require(1, "new"));
       evaluator.charge(text.size() * (1 + to.size()));
       return Value(replaceText(text, toText(arguments.require(0, "old")), to,
                                arguments.integer(2, "count", -1)));
     }},
    {"reverse",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       arguments.only({});
       std::vector<Value> items = itemsOf(evaluator, value);
       std::reverse(items.begin(), items.end());
       return value.string() ? Value(joinText(evaluator, items, "")) : generator(std::move(items));
     }},
    {"round", roundFilter},
    {"safe",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       return Value(toText(value));
     }},
    {"select",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       return choose(evaluator, value, arguments, false, true);
     }},
    {"selectattr",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       return choose(evaluator, value, arguments, true, true);
     }},
    {"sort",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       arguments.only({"reverse", "case_sensitive", "attribute"});
       auto items = keyed(evaluator, value, arguments.take(2, "attribute"),
                          arguments.flag(1, "case_sensitive", false));
       sortBy(evaluator, items, arguments.flag(0, "reverse", false));
       std::vector<Value> sorted;
       for (auto &item : items)
         sorted.push_back(std::move(item.second));
       return list(std::move(sorted));
     }},
    {"string",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       arguments.only({});
       return evaluator.text(toText(value));
     }},
    {"sum", sumFilter},
    {"title", titleFilter},
    {"tojson", tojson},
    {"trim",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       arguments.only({"chars"});
       std::optional<Value> chars = arguments.take(0, "chars");
       std::string set = chars && !chars->isNone() ? toText(*chars) : "";
       return evaluator.text(std::string(
           stripText(toText(value), true, true, chars && !chars->isNone() ? &set : nullptr)));
     }},
    {"unique", uniqueFilter},
    {"upper",
     [](Evaluator &evaluator, const Value &value, Arguments &arguments) -> Value {
       arguments.only({});
       return evaluator.text(upperText(toText(value)));
     }},
};

bool ordered(const Value &value, Arguments &arguments, std::string_view symbol) {
  arguments.only({"other"});
  int order = compare(value, arguments.require(0, "other"), symbol);
  return symbol == "<"    ? order < 0
         : symbol == "<=" ? order <= 0
         : symbol == ">"  ? order > 0
                          : order >= 0;
}

int64_t integerOf(const Value &value) {
  std::optional<int64_t> integer = value.integer();
  if (!integer)
    fail("expected an integer, found " + std::string(value.typeName()));
  return *integer;
}

bool isIterable(const Value &value) {
  return value.sequence() || value.dict() || value.string() || value.isUndefined();
}

struct NamedTest {
  std::string_view name;
  TestFunction function;
};

constexpr NamedTest kTests[] = {
    {"boolean",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return value.get<bool>();
     }},
    {"callable",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return value.function();
     }},
    {"defined",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return !value.isUndefined();
     }},
    {"divisibleby",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       int64_t divisor = integerOf(arguments.require(0, "num"));
       if (divisor == 0)
         fail("division by zero");
       return divisor == -1 || integerOf(value) % divisor == 0;
     }},
    {"eq",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       arguments.only({"other"});
       return equal(value, arguments.require(0, "other"));
     }},
    {"even",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return integerOf(value) % 2 == 0;
     }},
    {"false",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return value.get<bool>() && !value.truthy();
     }},
    {"filter",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return value.string() && isFilter(*value.string());
     }},
    {"float",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return value.get<double>();
     }},
    {"ge",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return ordered(value, arguments, ">=");
     }},
    {"gt",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return ordered(value, arguments, ">");
     }},
    {"in",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       arguments.only({"seq"});
       return contains(arguments.require(0, "seq"), value);
     }},
    {"integer",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return value.get<int64_t>();
     }},
    {"iterable",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return isIterable(value);
     }},
    {"le",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return ordered(value, arguments, "<=");
     }},
    {"lower",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       std::string text = toText(value);
       return text == lowerText(text) && text != upperText(text);
     }},
    {"lt",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return ordered(value, arguments, "<");
     }},
    {"mapping",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool { return value.dict(); }},
    {"ne",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return !equal(value, arguments.require(0, "other"));
     }},
    {"none",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool { return value.isNone(); }},
    {"number",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return value.number().has_value();
     }},
    {"odd",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return integerOf(value) % 2 != 0;
     }},
    {"sameas",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       Value other = arguments.require(0, "other");
       return value.typeName() == other.typeName() && equal(value, other);
     }},
    {"sequence",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       const Sequence *s = value.sequence();
       return (s && s->kind != Sequence::kGenerator) || value.dict() || value.string();
     }},
    {"string",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool { return value.string(); }},
    {"test",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return value.string() && isTest(*value.string());
     }},
    {"true",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return value.get<bool>() && value.truthy();
     }},
    {"undefined",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       return value.isUndefined();
     }},
    {"upper",
     [](Evaluator &, const Value &value, Arguments &arguments) -> bool {
       std::string text = toText(value);
       return text == upperText(text) && text != lowerText(text);
     }},
};

/// Second names.
constexpr std::pair<std::string_view, std::string_view> kFilterAliases[] = {
    {"count", "length"}, {"d", "default"}, {"e", "escape"}};
constexpr std::pair<std::string_view, std::string_view> kTestAliases[] = {
    {"equalto", "eq"},     {"==", "eq"}, {"!=", "ne"}, {"<", "lt"}, {"lessthan", "lt"},
    {"greaterthan", "gt"}, {">", "gt"},  {"<=", "le"}, {">=", "ge"}};

/// The tests that take an argument.
constexpr std::string_view kComparingTests[] = {"divisibleby", "eq", "ge", "gt",    "in",
                                                "le",          "lt", "ne", "sameas"};

template <typename Aliases>
std::string_view canonical(const Aliases &aliases, std::string_view name) {
  for (auto [alias, real] : aliases)
    if (alias == name)
      return real;
  return name;
}

template <typename Table, typename Aliases>
auto lookUp(const Table &table, const Aliases &aliases, std::string_view name) {
  name = canonical(aliases, name);
  auto *it = std::find_if(std::begin(table), std::end(table),
                          [&](const auto &entry) { return entry.name == name; });
  return it == std::end(table) ? nullptr : it->function;
}

} // namespace

bool isFilter(std::string_view name) { return lookUp(kFilters, kFilterAliases, name); }
bool isTest(std::string_view name) { return lookUp(kTests, kTestAliases, name); }

Value Evaluator::applyFilter(std::string_view name, const Value &value, Arguments &arguments) {
  charge(kStepCost);
  return lookUp(kFilters, kFilterAliases, name)(*this, value, arguments);
}

bool Evaluator::applyTest(std::string_view name, const Value &value, Arguments &arguments) {
  charge(kStepCost);
  bool compares = std::find(std::begin(kComparingTests), std::end(kComparingTests),
                            canonical(kTestAliases, name)) != std::end(kComparingTests);
  if (!compares)
    arguments.only({});
  return lookUp(kTests, kTestAliases, name)(*this, value, arguments);
}

} // namespace sluice::text::chat
