//===- RegexTranslator.cpp - Oniguruma's syntax to PCRE2's ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A recursive-descent rewriter. A bracket expression is collected into plain members, which fit one
// PCRE2 bracket, and into alternatives that do not (complements with additions, nested and
// intersected classes), which become an alternation of single-character atoms.
//
//===------------------------------------------------------------------------===//
#include "runtime/text/RegexTranslator.h"

#include "runtime/base/Format.h"
#include "runtime/text/UnicodeSets.h"
#include "runtime/text/Utf8.h"

#include <cctype>
#include <optional>
#include <utility>
#include <vector>

namespace sluice::text {
namespace {

constexpr int kMaxDepth = 64;      // nested groups and classes
constexpr int kMaxRepeat = 100000; // Oniguruma's own limit; PCRE2 refuses what exceeds its 65535

/// A set of characters while it is being rewritten: members of one bracket, and atoms beside it.
struct CharacterSet {
  std::string members;
  std::vector<std::string> atoms;

  void add(const CharacterSet &other) {
    members += other.members;
    atoms.insert(atoms.end(), other.atoms.begin(), other.atoms.end());
  }

  /// An atom that consumes exactly one character of the set, or of its complement.
  std::string atom(bool negated) const {
    if (atoms.empty())
      return members.empty() ? (negated ? "(?s:.)" : "(?!)")
                             : (negated ? "[^" : "[") + members + "]";
    std::string any;
    if (!members.empty())
      any = "[" + members + "]";
    for (const std::string &a : atoms)
      any += (any.empty() ? "" : "|") + a;
    return negated ? "(?:(?!" + any + ")(?s:.))" : "(?:" + any + ")";
  }
};

std::string codePoint(uint32_t c) {
  if (c < 0x80 && std::isalnum(static_cast<int>(c)))
    return std::string(1, static_cast<char>(c));
  return format("\\x{%X}", c);
}

std::string codePointRange(uint32_t first, uint32_t last) {
  return first == last ? codePoint(first) : codePoint(first) + "-" + codePoint(last);
}

/// What Unicode versions after PCRE2's added to the category `name` ("L" or "Lu"), as members.
std::string additions(std::string_view name) {
  std::string out;
  for (const CategoryRange &range : newlyAssigned())
    if (categoryName(range.category).substr(0, name.size()) == name)
      out += codePointRange(range.first, range.last);
  return out;
}

constexpr std::string_view kWhiteSpace =
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"
    "\\x{205F}\\x{3000}";

std::string wordMembers() {
  std::string out;
  for (std::string_view name : {"L", "M", "Nd", "Nl", "Pc"})
    out += "\\p{" + std::string(name) + "}" + additions(name);
  for (const CodePointRange &range : alphabeticSymbols())
    out += codePointRange(range.first, range.last);
  return out;
}

/// Scripts in published patterns, and the code points later Unicode versions gave them.
struct Script {
  std::string_view name;
  std::string_view additions;
};
constexpr Script kScripts[] = {
    {"Han", "\\x{2B739}\\x{2EBF0}-\\x{2EE5D}\\x{31350}-\\x{323AF}"},
    {"Hiragana", "\\x{1B132}"},
    {"Katakana", "\\x{1B155}"},
    {"Hangul", ""},
    {"Thai", ""},
    {"Hebrew", ""},
};

class Translator {
public:
  explicit Translator(std::string_view pattern) : in(pattern) {}

  Result<std::string> run() {
    SLUICE_RETURN_IF_ERROR(alternation(0));
    if (pos < in.size())
      return corrupt("unmatched )");
    return std::move(out);
  }

private:
  bool more() const { return pos < in.size(); }
  bool at(std::string_view text) const { return in.substr(pos, text.size()) == text; }
  bool take(std::string_view text) {
    if (!at(text))
      return false;
    pos += text.size();
    return true;
  }
  std::string where() const {
    return format(" at byte %zu of the pattern %.*s", pos, static_cast<int>(in.size()), in.data());
  }
  Status corrupt(std::string_view what) const { return dataCorrupt(std::string(what) + where()); }
  Status refuse(std::string_view what) const {
    return unsupported(std::string(what) + " is not supported" + where());
  }

  Status alternation(int depth) {
    if (depth > kMaxDepth)
      return corrupt(format("groups nest deeper than %d", kMaxDepth));
    while (more() && in[pos] != ')') {
      if (take("|")) {
        out += '|';
        continue;
      }
      size_t start = out.size();
      SLUICE_RETURN_IF_ERROR(atom(depth));
      SLUICE_RETURN_IF_ERROR(quantifiers(start));
    }
    return Status::ok();
  }

  Status atom(int depth) {
    char c = in[pos];
    switch (c) {
    case '(':
      return group(depth);
    case '[': {
      ++pos;
      auto set = bracket(depth + 1);
      if (!set.isOk())
        return set.status();
      out += set->atom(false);
      return Status::ok();
    }
    case '\\':
      return escape();
    case '.':
    case '^':
    case '$':
      ++pos;
      out += c;
      return Status::ok();
    case '*':
    case '+':
    case '?':
      return corrupt("a quantifier without a target");
    default:
      out += codePoint(nextCodePoint(in, pos));
      return Status::ok();
    }
  }

  Status group(int depth) {
    if (in.substr(pos, 2) != "(?") {
      ++pos;
      out += "(?:";
    } else {
      static constexpr std::string_view kOpenings[] = {"(?:",  "(?=",  "(?!",  "(?>",
                                                       "(?<=", "(?<!", "(?i:", "(?-i:"};
      bool known = false;
      for (std::string_view opening : kOpenings)
        if (take(opening)) {
          out += opening;
          known = true;
          break;
        }
      if (!known) {
        if (take("(?#")) {
          size_t close = in.find(')', pos);
          if (close == std::string_view::npos)
            return corrupt("unterminated comment");
          pos = close + 1;
          return Status::ok();
        }
        // An option for the rest of a group reaches over alternatives differently in the two
        // syntaxes; at the very beginning both agree.
        if (pos == 0 && take("(?i)")) {
          out += "(?i)";
          return Status::ok();
        }
        size_t end = std::min(in.size(), pos + 4);
        return refuse("the group \"" + std::string(in.substr(pos, end - pos)) + "...\"");
      }
    }
    SLUICE_RETURN_IF_ERROR(alternation(depth + 1));
    if (!take(")"))
      return corrupt("unterminated group");
    out += ')';
    return Status::ok();
  }

  struct Interval {
    std::string text;
    size_t end;
    bool exact;
  };
  /// The interval at `pos`, or nothing when the brace there is a literal, as Ruby reads it.
  Result<std::optional<Interval>> interval() const {
    size_t p = pos + 1;
    auto number = [&]() -> std::optional<int> {
      size_t start = p;
      int value = 0;
      while (p < in.size() && in[p] >= '0' && in[p] <= '9')
        value = std::min(value * 10 + (in[p++] - '0'), kMaxRepeat + 1);
      return p == start ? std::nullopt : std::optional<int>(value);
    };
    std::optional<int> low = number(), high;
    bool comma = p < in.size() && in[p] == ',';
    if (comma) {
      ++p;
      high = number();
    }
    if (p >= in.size() || in[p] != '}' || (!low && !high))
      return std::optional<Interval>();
    if (std::max(low.value_or(0), high.value_or(0)) > kMaxRepeat)
      return corrupt(format("a repetition above %d", kMaxRepeat));
    if (low && high && *low > *high)
      return refuse("an interval whose first number is the larger");
    std::string text = "{" + std::to_string(low.value_or(0));
    if (comma)
      text += "," + (high ? std::to_string(*high) : std::string());
    return std::optional<Interval>({text + "}", p + 1, !comma});
  }

  Status quantifiers(size_t start) {
    bool quantified = false;
    auto begin = [&] {
      if (std::exchange(quantified, true)) {
        out.insert(start, "(?:");
        out += ')';
      }
    };
    while (more()) {
      char c = in[pos];
      if (c == '*' || c == '+' || c == '?') {
        begin();
        ++pos;
        out += c;
        // Lazy and possessive marks belong to these three quantifiers.
        if (take("?"))
          out += '?';
        else if (take("+"))
          out += '+';
        continue;
      }
      if (c != '{')
        break;
      auto parsed = interval();
      if (!parsed.isOk())
        return parsed.status();
      if (!parsed->has_value())
        break;
      begin();
      out += (*parsed)->text;
      pos = (*parsed)->end;
      // Ruby: {n,m}? is lazy, but {n}? is an optional group and {n,m}+ a repeated one; those two
      // come out of the next round.
      if (!(*parsed)->exact && take("?"))
        out += '?';
    }
    return Status::ok();
  }

  Status escape() {
    if (pos + 1 >= in.size())
      return corrupt("a backslash at the end");
    switch (in[pos + 1]) {
    case 'A':
    case 'z':
    case 'Z':
    case 'R':
      out += in.substr(pos, 2);
      pos += 2;
      return Status::ok();
    default:
      break;
    }
    bool literal = false;
    uint32_t value = 0;
    CharacterSet set;
    SLUICE_RETURN_IF_ERROR(characterEscape(literal, value, set));
    out += literal ? codePoint(value) : set.atom(false);
    return Status::ok();
  }

  /// An escape that stands for a character or a set of them, inside or outside of brackets.
  Status characterEscape(bool &literal, uint32_t &value, CharacterSet &set) {
    if (pos + 1 >= in.size())
      return corrupt("a backslash at the end");
    char c = in[pos + 1];
    literal = false;
    auto complement = [](std::string_view members) {
      CharacterSet result;
      result.atoms.push_back("[^" + std::string(members) + "]");
      return result;
    };
    static constexpr std::pair<char, uint32_t> kControls[] = {
        {'r', '\r'}, {'n', '\n'}, {'t', '\t'}, {'v', '\v'}, {'f', '\f'}, {'a', 7}, {'e', 27}};
    for (auto [name, control] : kControls)
      if (c == name) {
        pos += 2;
        literal = true;
        value = control;
        return Status::ok();
      }
    switch (c) {
    case 's':
      set.members = kWhiteSpace;
      break;
    case 'S':
      set = complement(kWhiteSpace);
      break;
    case 'd':
      set.members = "\\p{Nd}" + additions("Nd");
      break;
    case 'D':
      set = complement("\\p{Nd}" + additions("Nd"));
      break;
    case 'w':
      set.members = wordMembers();
      break;
    case 'W':
      set = complement(wordMembers());
      break;
    case 'h':
      set.members = "0-9A-Fa-f";
      break;
    case 'H':
      set = complement("0-9A-Fa-f");
      break;
    case 'p':
    case 'P':
      return property(set);
    case 'x':
    case 'u':
      literal = true;
      return hexadecimal(value);
    default:
      if (std::isalnum(static_cast<uint8_t>(c)))
        return refuse("the escape \"\\" + std::string(1, c) + "\"");
      ++pos;
      literal = true;
      value = nextCodePoint(in, pos);
      return Status::ok();
    }
    pos += 2;
    return Status::ok();
  }

  Status hexadecimal(uint32_t &value) {
    bool braces = in.substr(pos, 3) == "\\x{";
    size_t p = pos + (braces ? 3 : 2);
    size_t most = braces ? 8 : in[pos + 1] == 'u' ? 4 : 2;
    size_t digits = 0;
    value = 0;
    while (digits < most && p < in.size() && std::isxdigit(static_cast<uint8_t>(in[p]))) {
      char c = in[p++];
      value = value * 16 + static_cast<uint32_t>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
      ++digits;
    }
    bool complete = braces ? digits > 0 && p < in.size() && in[p] == '}'
                           : digits == most || (digits > 0 && most == 2);
    if (!complete || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
      return corrupt("a malformed code point");
    if (!braces && most == 2 && value > 0x7F)
      return refuse("a single byte above 0x7F");
    pos = p + (braces ? 1 : 0);
    return Status::ok();
  }

  Status property(CharacterSet &set) {
    size_t close = in.find('}', pos);
    if (in.substr(pos + 2, 1) != "{" || close == std::string_view::npos)
      return corrupt("a property without braces");
    std::string_view name = in.substr(pos + 3, close - pos - 3);
    bool negated = in[pos + 1] == 'P';
    if (name.substr(0, 1) == "^") {
      negated = !negated;
      name.remove_prefix(1);
    }
    std::string members;
    for (const Script &script : kScripts)
      if (name == script.name)
        members = "\\p{sc:" + std::string(name) + "}" + std::string(script.additions);
    if (name.size() == 1 || name.size() == 2)
      for (int i = 0; i <= static_cast<int>(Category::Co) && members.empty(); ++i)
        if (categoryName(static_cast<Category>(i)).substr(0, name.size()) == name)
          members = "\\p{" + std::string(name) + "}" + additions(name);
    if (members.empty())
      return refuse("the property \"" + std::string(name) + "\"");
    if (name == "C" || name == "Cn") {
      // What has been assigned since left these two; Cf among it stays in C.
      std::string assigned;
      for (const CategoryRange &range : newlyAssigned())
        if (range.category != Category::Cf || name == "Cn")
          assigned += codePointRange(range.first, range.last);
      std::string inside = "(?:(?![" + assigned + "])[\\p{" + std::string(name) + "}])";
      set.atoms.push_back(negated ? "(?:(?!" + inside + ")(?s:.))" : inside);
    } else if (negated) {
      set.atoms.push_back("[^" + members + "]");
    } else {
      set.members = members;
    }
    pos = close + 1;
    return Status::ok();
  }

  /// The bracket expression whose opening bracket has been read.
  Result<CharacterSet> bracket(int depth) {
    if (depth > kMaxDepth)
      return corrupt(format("classes nest deeper than %d", kMaxDepth));
    bool negated = take("^");
    std::vector<CharacterSet> operands(1);
    bool first = true;
    for (;; first = false) {
      if (!more())
        return corrupt("unterminated class");
      if (in[pos] == ']' && !first) {
        ++pos;
        break;
      }
      if (take("&&")) {
        operands.emplace_back();
        continue;
      }
      if (at("[:")) {
        SLUICE_RETURN_IF_ERROR(posixClass(operands.back()));
        continue;
      }
      if (take("[")) {
        auto nested = bracket(depth + 1);
        if (!nested.isOk())
          return nested.status();
        operands.back().add(*nested);
        continue;
      }
      SLUICE_RETURN_IF_ERROR(member(operands.back()));
    }
    CharacterSet result = std::move(operands[0]);
    if (operands.size() > 1) {
      std::string all = "(?:";
      for (size_t i = 1; i < operands.size(); ++i)
        all += "(?=" + operands[i].atom(false) + ")";
      all += result.atom(false) + ")";
      result = {};
      result.atoms.push_back(std::move(all));
    }
    if (!negated)
      return result;
    CharacterSet complement;
    complement.atoms.push_back(result.atom(true));
    return complement;
  }

  Status posixClass(CharacterSet &set) {
    if (take("[:space:]"))
      set.members += kWhiteSpace;
    else if (take("[:digit:]"))
      set.members += "\\p{Nd}" + additions("Nd");
    else
      return refuse("the class \"" + std::string(in.substr(pos, in.find(']', pos) - pos + 1)) +
                    "\"");
    return Status::ok();
  }

  Status character(bool &literal, uint32_t &value, CharacterSet &set) {
    if (in[pos] == '\\')
      return characterEscape(literal, value, set);
    literal = true;
    value = nextCodePoint(in, pos);
    return Status::ok();
  }

  /// One member of a bracket expression: a character, a range or an escape.
  Status member(CharacterSet &set) {
    bool literal = false;
    uint32_t low = 0;
    CharacterSet escaped;
    SLUICE_RETURN_IF_ERROR(character(literal, low, escaped));
    if (!literal) {
      set.add(escaped);
      return Status::ok();
    }
    bool range = at("-") && pos + 1 < in.size() && in[pos + 1] != ']' && in[pos + 1] != '[' &&
                 in.substr(pos + 1, 2) != "&&";
    if (!range) {
      set.members += codePoint(low);
      return Status::ok();
    }
    ++pos;
    uint32_t high = 0;
    SLUICE_RETURN_IF_ERROR(character(literal, high, escaped));
    if (!literal)
      return corrupt("a range that ends in a class");
    if (high < low)
      return corrupt("a range whose end precedes its start");
    set.members += codePointRange(low, high);
    return Status::ok();
  }

  std::string_view in;
  size_t pos = 0;
  std::string out;
};

} // namespace

Result<std::string> translateRegex(std::string_view pattern) { return Translator(pattern).run(); }

} // namespace sluice::text
