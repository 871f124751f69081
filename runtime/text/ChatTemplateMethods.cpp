//===- ChatTemplateMethods.cpp - Methods and functions of chat templates ----===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Python's methods of str, dict, list and tuple, the attributes of `loop`, and the global functions
// that Jinja and transformers provide. Methods that would change a container are refused, as in the
// sandbox.
//
//===------------------------------------------------------------------------===//
#include "runtime/base/Format.h"
#include "runtime/text/ChatTemplateEvaluator.h"
#include "runtime/text/UnicodeSets.h"
#include "runtime/text/Utf8.h"

#include <algorithm>
#include <utf8proc.h>

namespace sluice::text::chat {

std::string replaceText(std::string_view text, std::string_view from, std::string_view to,
                        int64_t count) {
  std::string out;
  size_t limit = count < 0 ? SIZE_MAX : static_cast<size_t>(count), pos = 0;
  if (from.empty()) {
    for (; limit > 0; --limit) {
      out += to;
      if (pos >= text.size())
        return out;
      size_t size = codePointSize(text[pos]);
      out += text.substr(pos, size);
      pos += size;
    }
    return out += text.substr(pos);
  }
  for (size_t at; limit > 0 && (at = text.find(from, pos)) != std::string_view::npos; --limit) {
    out += text.substr(pos, at - pos);
    out += to;
    pos = at + from.size();
  }
  return out += text.substr(pos);
}

std::string joinText(Evaluator &evaluator, const std::vector<Value> &items,
                     std::string_view separator) {
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    size_t before = out.size();
    if (i)
      out += separator;
    out += toText(items[i]);
    evaluator.charge(out.size() - before);
  }
  return out;
}

std::string upperText(std::string_view text) {
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    uint32_t c = nextCodePoint(text, pos);
    if (c == 0xDF)
      out += "SS";
    else
      appendUtf8(out, static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
  }
  return out;
}

std::string lowerText(std::string_view text) {
  std::string out;
  for (size_t pos = 0; pos < text.size();)
    appendLowercase(out, nextCodePoint(text, pos));
  return out;
}

/// The title case of one character, which differs from the upper case for digraphs.
static std::string titleCharacter(std::string_view character) {
  size_t pos = 0;
  uint32_t c = nextCodePoint(character, pos);
  std::string out;
  if (c == 0xDF)
    out = "Ss";
  else
    appendUtf8(out, static_cast<uint32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
  return out;
}

std::string capitalizeText(std::string_view text) {
  if (text.empty())
    return "";
  size_t first = codePointSize(text[0]);
  return titleCharacter(text.substr(0, first)) + lowerText(text.substr(first));
}

std::string printfText(Evaluator &evaluator, std::string_view pattern,
                       const std::vector<Value> &arguments) {
  std::string out;
  size_t used = 0;
  for (size_t pos = 0; pos < pattern.size();) {
    if (pattern[pos] != '%') {
      out += pattern[pos++];
      continue;
    }
    size_t start = pos++;
    while (pos < pattern.size() &&
           std::string_view("-+ #0").find(pattern[pos]) != std::string_view::npos)
      ++pos;
    int width = 0;
    for (; pos < pattern.size() &&
           (std::isdigit(static_cast<uint8_t>(pattern[pos])) || pattern[pos] == '.');
         ++pos)
      width = pattern[pos] == '.' ? 0 : std::min(width * 10 + (pattern[pos] - '0'), 10000);
    if (pos >= pattern.size())
      fail("incomplete format");
    if (width > 1000)
      exceed("a format wider than 1000");
    char kind = pattern[pos++];
    if (kind == '%') {
      out += '%';
      continue;
    }
    if (used >= arguments.size())
      fail("not enough arguments for format string");
    const Value &value = arguments[used++];
    std::string spec(pattern.substr(start, pos - start - 1));
    if (kind == 's' || kind == 'r') {
      std::string text = kind == 's' ? toText(value) : toRepr(value);
      out += spec == "%" ? text : format((spec + "s").c_str(), text.c_str());
    } else if (std::string_view("diuxXo").find(kind) != std::string_view::npos && value.number()) {
      long long integer =
          value.integer() ? *value.integer() : static_cast<long long>(*value.number());
      out += format((spec + "ll" + (kind == 'u' ? 'd' : kind)).c_str(), integer);
    } else if (std::string_view("eEfFgG").find(kind) != std::string_view::npos && value.number()) {
      out += format((spec + kind).c_str(), *value.number());
    } else {
      fail(std::string("the format %") + kind + " does not fit a value of type " +
           std::string(value.typeName()));
    }
    evaluator.charge(out.size() / 16 + 1);
  }
  if (used < arguments.size())
    fail("not all arguments converted during string formatting");
  return out;
}

namespace {

using StringMethod = Value (*)(Evaluator &, const std::string &, Arguments &);

std::vector<Value> splitText(std::string_view text, const std::optional<Value> &separator,
                             int64_t limit, bool fromRight) {
  std::vector<Value> parts;
  size_t most = limit < 0 ? SIZE_MAX : static_cast<size_t>(limit);
  const std::string *mark = separator && !separator->isNone() ? separator->string() : nullptr;
  if (separator && !separator->isNone() && !mark)
    fail("must be str or None, not " + std::string(separator->typeName()));
  if (mark && mark->empty())
    fail("empty separator");
  auto add = [&](std::string_view part) { parts.emplace_back(std::string(part)); };
  if (fromRight) {
    for (;;) {
      if (!mark) {
        text = stripText(text, false, true, nullptr);
        if (text.empty())
          break;
      }
      size_t at = std::string_view::npos, size = mark ? mark->size() : 0;
      if (parts.size() < most) {
        if (mark) {
          at = text.rfind(*mark);
        } else {
          for (size_t end = text.size(); end > 0;) {
            size_t before = previousCodePoint(text, end), p = before;
            if (isPythonSpace(nextCodePoint(text, p))) {
              at = before;
              size = end - before;
              break;
            }
            end = before;
          }
        }
      }
      if (at == std::string_view::npos) {
        add(mark || parts.size() == most ? text : stripText(text, true, false, nullptr));
        break;
      }
      add(text.substr(at + size));
      text = text.substr(0, at);
    }
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  if (mark) {
    for (size_t at; parts.size() < most && (at = text.find(*mark)) != std::string_view::npos;) {
      add(text.substr(0, at));
      text.remove_prefix(at + mark->size());
    }
    add(text);
    return parts;
  }
  for (;;) {
    text = stripText(text, true, false, nullptr);
    if (text.empty())
      return parts;
    if (parts.size() == most) {
      add(text);
      return parts;
    }
    size_t end = 0;
    while (end < text.size()) {
      size_t next = end;
      if (isPythonSpace(nextCodePoint(text, next)))
        break;
      end = next;
    }
    add(text.substr(0, end));
    text.remove_prefix(end);
  }
}

std::vector<Value> splitLines(std::string_view text, bool keepEnds) {
  std::vector<Value> lines;
  for (size_t start = 0; start < text.size();) {
    size_t end = start, next = start;
    while (next < text.size()) {
      end = next;
      uint32_t c = nextCodePoint(text, next);
      if ((c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
          c == 0x2029) {
        if (c == '\r' && next < text.size() && text[next] == '\n')
          ++next;
        break;
      }
      end = next;
    }
    lines.emplace_back(std::string(text.substr(start, (keepEnds ? next : end) - start)));
    start = next;
  }
  return lines;
}

/// startswith and endswith take one string or a tuple of them.
bool matchesAny(const Value &argument, const auto &matches) {
  if (const std::string *one = argument.string())
    return matches(*one);
  const Sequence *tuple = argument.sequence();
  if (!tuple || tuple->kind != Sequence::kTuple)
    fail("the first argument must be str or a tuple of str, not " +
         std::string(argument.typeName()));
  return std::any_of(tuple->items.begin(), tuple->items.end(), [&](const Value &item) {
    if (!item.string())
      fail("a tuple for startswith or endswith must only contain str");
    return matches(*item.string());
  });
}

template <typename F> bool allCharacters(const std::string &text, F holds) {
  if (text.empty())
    return false;
  for (size_t pos = 0; pos < text.size();)
    if (!holds(nextCodePoint(text, pos)))
      return false;
  return true;
}

Value strip(Evaluator &evaluator, const std::string &text, Arguments &arguments, bool left,
            bool right) {
  arguments.only({"chars"});
  std::optional<Value> chars = arguments.take(0, "chars");
  std::string set = arguments.text(0, "chars", "");
  evaluator.charge(text.size());
  return Value(std::string(stripText(text, left, right, chars ? &set : nullptr)));
}

Value find(const std::string &text, Arguments &arguments, bool last, bool required) {
  arguments.only({"sub"});
  std::string part = arguments.text(0, "sub", "");
  size_t at = last ? text.rfind(part) : text.find(part);
  if (at != std::string::npos)
    return Value(static_cast<int64_t>(countCodePoints(std::string_view(text).substr(0, at))));
  if (required)
    fail("substring not found");
  return Value(int64_t(-1));
}

Value partition(const std::string &text, Arguments &arguments, bool last) {
  arguments.only({"sep"});
  std::string mark = arguments.text(0, "sep", "");
  if (mark.empty())
    fail("empty separator");
  size_t at = last ? text.rfind(mark) : text.find(mark);
  std::vector<Value> parts;
  if (at == std::string::npos)
    parts = last ? std::vector<Value>{Value(""), Value(""), Value(text)}
                 : std::vector<Value>{Value(text), Value(""), Value("")};
  else
    parts = {Value(text.substr(0, at)), Value(mark), Value(text.substr(at + mark.size()))};
  return Value::sequence(std::move(parts), Sequence::kTuple);
}

/// str.format with {}, {0} and {name}; specifications are refused.
Value formatMethod(Evaluator &evaluator, const std::string &pattern, Arguments &arguments) {
  std::string out;
  size_t automatic = 0;
  for (size_t pos = 0; pos < pattern.size();) {
    char c = pattern[pos];
    if ((c == '{' || c == '}') && pattern.substr(pos, 2) == std::string(2, c)) {
      out += c;
      pos += 2;
    } else if (c == '{') {
      size_t close = pattern.find('}', pos);
      if (close == std::string::npos)
        fail("Single '{' encountered in format string");
      std::string field = pattern.substr(pos + 1, close - pos - 1);
      if (field.find_first_of(":!.[{") != std::string::npos)
        fail("the format field {" + field + "} is not supported");
      bool digits = !field.empty() && field.size() < 6 &&
                    field.find_first_not_of("0123456789") == std::string::npos;
      size_t index = field.empty() ? automatic++ : digits ? std::stoul(field) : SIZE_MAX;
      std::optional<Value> value = arguments.take(index, field);
      if (!value)
        fail("no argument for the format field {" + field + "}");
      out += toText(*value);
      pos = close + 1;
    } else if (c == '}') {
      fail("Single '}' encountered in format string");
    } else {
      out += c;
      ++pos;
    }
  }
  return evaluator.text(std::move(out));
}

struct NamedMethod {
  std::string_view name;
  StringMethod function;
};

constexpr NamedMethod kStringMethods[] = {
    {
        "capitalize",
        [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
          return evaluator.text(capitalizeText(text));
        } // namespace
    }     // namespace sluice::text::chat
    ,
    {"count",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       arguments.only({"sub"});
       std::string part = arguments.text(0, "sub", "");
       if (part.empty())
         return Value(static_cast<int64_t>(countCodePoints(text) + 1));
       int64_t count = 0;
       for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size())
         ++count;
       return Value(count);
     }},
    {"endswith",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       arguments.only({"suffix"});
       return Value(matchesAny(arguments.require(0, "suffix"),
                               [&](const std::string &s) { return text.ends_with(s); }));
     }},
    {"find",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return find(text, arguments, false, false);
     }},
    {"format", formatMethod},
    {"index",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return find(text, arguments, false, true);
     }},
    {"isalnum",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return Value(allCharacters(text, [](uint32_t c) {
         Category category = generalCategory(c);
         return (category >= Category::Lu && category <= Category::Lo) ||
                (category >= Category::Nd && category <= Category::No);
       }));
     }},
    {"isalpha",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return Value(allCharacters(text, [](uint32_t c) {
         Category category = generalCategory(c);
         return category >= Category::Lu && category <= Category::Lo;
       }));
     }},
    {"isdigit",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return Value(
           allCharacters(text, [](uint32_t c) { return generalCategory(c) == Category::Nd; }));
     }},
    {"islower",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return Value(text == lowerText(text) && text != upperText(text));
     }},
    {"isspace",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return Value(allCharacters(text, isPythonSpace));
     }},
    {"isupper",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return Value(text == upperText(text) && text != lowerText(text));
     }},
    {"join",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       arguments.only({"iterable"});
       std::vector<Value> items = iterate(arguments.require(0, "iterable"));
       for (const Value &item : items)
         if (!item.string())
           fail("sequence item: expected str instance, " + std::string(item.typeName()) + " found");
       return Value(joinText(evaluator, items, text));
     }},
    {"lower",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return evaluator.text(lowerText(text));
     }},
    {"lstrip",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return strip(evaluator, text, arguments, true, false);
     }},
    {"partition",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return partition(text, arguments, false);
     }},
    {"removeprefix",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       std::string prefix = arguments.text(0, "prefix", "");
       return evaluator.text(text.starts_with(prefix) ? text.substr(prefix.size()) : text);
     }},
    {"removesuffix",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       std::string suffix = arguments.text(0, "suffix", "");
       return evaluator.text(text.ends_with(suffix) ? text.substr(0, text.size() - suffix.size())
                                                    : text);
     }},
    {"replace",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       arguments.only({"old", "new", "count"});
       std::string to = arguments.text(1, "new", "");
       evaluator.charge(text.size() * (1 + to.size()));
       return Value(
           replaceText(text, arguments.text(0, "old", ""), to, arguments.integer(2, "count", -1)));
     }},
    {"rfind",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return find(text, arguments, true, false);
     }},
    {"rindex",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return find(text, arguments, true, true);
     }},
    {"rpartition",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return partition(text, arguments, true);
     }},
    {"rsplit",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       arguments.only({"sep", "maxsplit"});
       evaluator.charge(text.size());
       return Value::sequence(
           splitText(text, arguments.take(0, "sep"), arguments.integer(1, "maxsplit", -1), true));
     }},
    {"rstrip",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return strip(evaluator, text, arguments, false, true);
     }},
    {"split",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       arguments.only({"sep", "maxsplit"});
       evaluator.charge(text.size());
       return Value::sequence(
           splitText(text, arguments.take(0, "sep"), arguments.integer(1, "maxsplit", -1), false));
     }},
    {"splitlines",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       arguments.only({"keepends"});
       evaluator.charge(text.size());
       return Value::sequence(splitLines(text, arguments.flag(0, "keepends", false)));
     }},
    {"startswith",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       arguments.only({"prefix"});
       return Value(matchesAny(arguments.require(0, "prefix"),
                               [&](const std::string &s) { return text.starts_with(s); }));
     }},
    {"strip",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return strip(evaluator, text, arguments, true, true);
     }},
    {"title",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       std::string out;
       bool inWord = false;
       for (size_t pos = 0; pos < text.size();) {
         size_t start = pos;
         Category category = generalCategory(nextCodePoint(text, pos));
         bool cased = category >= Category::Lu && category <= Category::Lt;
         std::string_view character = std::string_view(text).substr(start, pos - start);
         out += !cased   ? std::string(character)
                : inWord ? lowerText(character)
                         : titleCharacter(character);
         inWord = cased;
       }
       return evaluator.text(std::move(out));
     }},
    {"upper",
     [](Evaluator &evaluator, const std::string &text, Arguments &arguments) -> Value {
       return evaluator.text(upperText(text));
     }},
};

Value stringMethod(std::shared_ptr<const std::string> text, std::string_view name) {
  for (const NamedMethod &method : kStringMethods)
    if (method.name == name)
      return Value::function(std::string(name),
                             [text, &method](Evaluator &evaluator, Arguments &arguments) {
                               return method.function(evaluator, *text, arguments);
                             });
  return Value::undefined("");
}

Value dictMethod(std::shared_ptr<const Dict> dict, std::string_view name) {
  auto view = [&](auto pick) {
    return Value::function(std::string(name), [dict, pick](Evaluator &evaluator, Arguments &args) {
      args.only({});
      evaluator.charge(dict->items.size());
      std::vector<Value> items;
      for (const auto &item : dict->items)
        items.push_back(pick(item));
      return Value::sequence(std::move(items));
    });
  };
  if (name == "items")
    return view([](const auto &item) {
      return Value::sequence({item.first, item.second}, Sequence::kTuple);
    });
  if (name == "keys")
    return view([](const auto &item) { return item.first; });
  if (name == "values")
    return view([](const auto &item) { return item.second; });
  if (name == "get")
    return Value::function("get", [dict](Evaluator &, Arguments &arguments) {
      arguments.only({"key", "default"});
      const Value *found = dict->find(arguments.require(0, "key"));
      return found ? *found : arguments.takeOr(1, "default", Value());
    });
  if (name == "copy")
    return Value::function(
        "copy", [dict](Evaluator &, Arguments &) { return Value(Value::Storage(dict)); });
  for (std::string_view change : {"clear", "pop", "popitem", "setdefault", "update"})
    if (name == change)
      fail("dict." + std::string(name) + " would change a value, which chat templates cannot");
  return Value::undefined("");
}

Value sequenceMethod(std::shared_ptr<const Sequence> sequence, std::string_view name) {
  if (sequence->kind == Sequence::kGenerator)
    return Value::undefined("");
  if (name == "index" || name == "count")
    return Value::function(std::string(name), [sequence, index = name == "index"](
                                                  Evaluator &evaluator, Arguments &arguments) {
      arguments.only({"value"});
      Value wanted = arguments.require(0, "value");
      evaluator.charge(sequence->items.size());
      int64_t count = 0;
      for (size_t i = 0; i < sequence->items.size(); ++i)
        if (equal(sequence->items[i], wanted)) {
          if (index)
            return Value(static_cast<int64_t>(i));
          ++count;
        }
      if (index)
        fail(toRepr(wanted) + " is not in list");
      return Value(count);
    });
  for (std::string_view change :
       {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"})
    if (name == change)
      fail("list." + std::string(name) +
           " would change a value, which chat templates cannot; use a "
           "namespace and +");
  return Value::undefined("");
}

Value loopAttribute(std::shared_ptr<const LoopState> loop, std::string_view name) {
  int64_t index = static_cast<int64_t>(loop->index);
  int64_t length = static_cast<int64_t>(loop->items.size());
  if (name == "index")
    return Value(index + 1);
  if (name == "index0")
    return Value(index);
  if (name == "revindex")
    return Value(length - index);
  if (name == "revindex0")
    return Value(length - index - 1);
  if (name == "first")
    return Value(index == 0);
  if (name == "last")
    return Value(index == length - 1);
  if (name == "length")
    return Value(length);
  // Loops that are not recursive all have the depth 1.
  if (name == "depth")
    return Value(int64_t(1));
  if (name == "depth0")
    return Value(int64_t(0));
  if (name == "previtem")
    return index > 0 ? loop->items[loop->index - 1] : Value::undefined("there is no previous item");
  if (name == "nextitem")
    return index + 1 < length ? loop->items[loop->index + 1]
                              : Value::undefined("there is no next item");
  if (name == "cycle")
    return Value::function("cycle", [loop](Evaluator &, Arguments &arguments) {
      if (arguments.positional.empty())
        fail("no items for cycling given");
      return arguments.positional[loop->index % arguments.positional.size()];
    });
  if (name == "changed")
    return Value::function("changed", [loop](Evaluator &, Arguments &arguments) {
      Value now = Value::sequence(arguments.positional, Sequence::kTuple);
      bool changed = !loop->changed || !equal(*loop->changed, now);
      loop->changed = std::move(now);
      return Value(changed);
    });
  return Value::undefined("");
}

Value range(Evaluator &evaluator, Arguments &arguments) {
  arguments.only({"start", "stop", "step"});
  size_t count = arguments.positional.size();
  if (count == 0)
    fail("range expected at least 1 argument, got 0");
  int64_t start = count > 1 ? arguments.integer(0, "start", 0) : 0;
  int64_t stop = arguments.integer(count > 1 ? 1 : 0, "stop", 0);
  int64_t step = arguments.integer(2, "step", 1);
  if (step == 0)
    fail("range() arg 3 must not be zero");
  std::vector<Value> items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (static_cast<int64_t>(items.size()) == kMaxRange)
      exceed(format("a range of more than %lld items", static_cast<long long>(kMaxRange)));
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i))
      break;
  }
  evaluator.charge(items.size() * sizeof(Value));
  return Value::sequence(std::move(items));
}

/// The items of dict(...) and namespace(...): one mapping and named arguments.
std::vector<std::pair<Value, Value>> members(Arguments &arguments) {
  std::vector<std::pair<Value, Value>> items;
  if (arguments.positional.size() > 1)
    fail(arguments.callee + " expected at most 1 argument");
  if (!arguments.positional.empty()) {
    const Dict *dict = arguments.positional[0].dict();
    if (dict)
      items = dict->items;
    else
      for (const Value &pair : iterate(arguments.positional[0])) {
        std::vector<Value> parts = iterate(pair);
        if (parts.size() != 2)
          fail(arguments.callee + " needs pairs of key and value");
        items.emplace_back(parts[0], parts[1]);
      }
  }
  for (auto &[key, value] : arguments.keyword)
    items.emplace_back(Value(key), value);
  return items;
}

Value namespaceFunction(Evaluator &evaluator, Arguments &arguments) {
  std::vector<std::pair<std::string, Value>> items;
  for (auto &[key, value] : members(arguments)) {
    if (!key.string())
      fail("the names in a namespace must be str");
    auto known = std::find_if(items.begin(), items.end(),
                              [&k = key](const auto &item) { return item.first == *k.string(); });
    if (known != items.end())
      known->second = value;
    else
      items.emplace_back(*key.string(), value);
  }
  return evaluator.makeNamespace(std::move(items));
}

Value strftimeNow(Evaluator &evaluator, Arguments &arguments) {
  arguments.only({"format"});
  std::string pattern = toText(arguments.require(0, "format"));
  if (pattern.empty())
    return Value("");
  if (pattern.size() > 1000)
    exceed("a time format of more than 1000 bytes");
  std::time_t now = evaluator.time();
  std::tm parts{};
  localtime_r(&now, &parts);
  // A mark makes an empty result differ from one that does not fit.
  std::string buffer(16 << 10, '\0');
  size_t size = std::strftime(buffer.data(), buffer.size(), (pattern + "|").c_str(), &parts);
  if (size == 0)
    fail("strftime_now(): the format gives too long a text");
  return evaluator.text(buffer.substr(0, size - 1));
}

} // namespace

Value methodOf(const Value &object, std::string_view name) {
  if (auto *text = object.get<Value::String>())
    return stringMethod(*text, name);
  if (auto *dict = object.get<std::shared_ptr<const Dict>>())
    return dictMethod(*dict, name);
  if (auto *sequence = object.get<std::shared_ptr<const Sequence>>())
    return sequenceMethod(*sequence, name);
  if (auto *loop = object.get<std::shared_ptr<const LoopState>>())
    return loopAttribute(*loop, name);
  return Value::undefined("");
}

const Value *globalFunction(std::string_view name) {
  static const std::pair<std::string_view, Value> kFunctions[] = {
      {"range", Value::function("range", range)},
      {"dict", Value::function("dict",
                               [](Evaluator &, Arguments &arguments) {
                                 return Value::dict(members(arguments));
                               })},
      {"namespace", Value::function("namespace", namespaceFunction)},
      {"strftime_now", Value::function("strftime_now", strftimeNow)},
      {"raise_exception",
       Value::function(
           "raise_exception",
           [](Evaluator &, Arguments &arguments) -> Value {
             arguments.only({"message"});
             throw TemplateError{TemplateError::kRaised, toText(arguments.require(0, "message"))};
           })},
  };
  for (const auto &[known, function] : kFunctions)
    if (known == name)
      return &function;
  return nullptr;
}

} // namespace sluice::text::chat
