//===- ChatTemplateLexer.cpp - The tokens of a chat template ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The rules are those of jinja2/lexer.py: what a tag's sign strips, when the indentation before a
// block goes (only where nothing else stands on the line), and that brackets inside of a tag hide
// its closing mark.
//
//===------------------------------------------------------------------------===//
#include "runtime/text/ChatTemplateLexer.h"

#include "runtime/base/Format.h"
#include "runtime/text/ChatTemplateValue.h"
#include "runtime/text/Utf8.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>

namespace sluice::text::chat {
namespace {

bool isNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<uint8_t>(c) >= 0x80;
}
bool isDigit(char c) { return c >= '0' && c <= '9'; }

/// One line ending, and none at the end of the file.
std::string prepare(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n')
      ++i;
  }
  if (!out.empty() && out.back() == '\n')
    out.pop_back();
  return out;
}

class Lexer {
public:
  explicit Lexer(std::string_view source) : in(source) {}

  std::vector<Token> run() {
    while (pos < in.size())
      root();
    push(Token::kEnd, "");
    return std::move(tokens);
  }

private:
  bool at(std::string_view text) const { return in.substr(pos, text.size()) == text; }

  [[noreturn]] void error(std::string message) {
    auto [line, column] = place(pos);
    throw TemplateError{TemplateError::kSyntax, std::move(message), line, column};
  }

  std::pair<int, int> place(size_t position) {
    for (; placed < position; ++placed) {
      if (in[placed] == '\n') {
        ++line;
        column = 1;
      } else if ((static_cast<uint8_t>(in[placed]) & 0xC0) != 0x80) {
        ++column;
      }
    }
    return {line, column};
  }

  Token &push(Token::Kind kind, std::string text) {
    auto [l, c] = place(pos);
    tokens.push_back({kind, std::move(text), 0, 0, l, c});
    return tokens.back();
  }

  void skipSpace() {
    while (pos < in.size()) {
      size_t next = pos;
      if (!isPythonSpace(nextCodePoint(in, next)))
        break;
      pos = next;
    }
  }

  /// The text before a tag, without what the tag's sign or the line's indentation takes away.
  std::string_view trimBefore(std::string_view text, char sign, bool isPrint) const {
    if (sign == '-')
      return stripText(text, false, true, nullptr);
    if (sign == '+' || isPrint)
      return text;
    size_t newline = text.rfind('\n');
    size_t lineStart = newline == std::string_view::npos ? 0 : newline + 1;
    if (lineStart == 0 && !lineStarting)
      return text;
    bool blank = stripText(text.substr(lineStart), true, false, nullptr).empty();
    return blank ? text.substr(0, lineStart) : text;
  }

  /// Behind a closing mark that has been read.
  void trimAfter(char sign, bool newline) {
    size_t start = pos;
    if (sign == '-')
      skipSpace();
    else if (sign != '+' && newline && at("\n"))
      ++pos;
    lineStarting = pos > start && in[pos - 1] == '\n';
  }

  /// Reads `sign` and `mark`, if they are next.
  bool closing(std::string_view mark, char &sign) {
    size_t p = pos;
    sign = 0;
    if (p < in.size() && (in[p] == '-' || in[p] == '+'))
      sign = in[p++];
    if (in.substr(p, mark.size()) != mark)
      return false;
    pos = p + mark.size();
    return true;
  }

  void root() {
    size_t open = in.find('{', pos);
    while (open != std::string_view::npos && open + 1 < in.size() &&
           std::string_view("{%#").find(in[open + 1]) == std::string_view::npos)
      open = in.find('{', open + 1);
    if (open == std::string_view::npos || open + 1 >= in.size()) {
      text(in.substr(pos));
      pos = in.size();
      return;
    }
    char kind = in[open + 1];
    std::string_view before = in.substr(pos, open - pos);
    char sign =
        open + 2 < in.size() && (in[open + 2] == '-' || in[open + 2] == '+') ? in[open + 2] : 0;
    // A sign belongs to the opening mark, also before a print expression: {{-1}} strips.
    text(trimBefore(before, sign, kind == '{'));
    pos = open;
    if (kind == '#')
      return comment(sign);
    size_t content = open + 2 + (sign ? 1 : 0);
    if (kind == '%' && rawBlock(content))
      return;
    push(kind == '{' ? Token::kPrintBegin : Token::kBlockBegin, "");
    pos = content;
    tag(kind == '{');
  }

  void text(std::string_view content) {
    if (!content.empty())
      push(Token::kText, std::string(content));
  }

  void comment(char sign) {
    size_t end = in.find("#}", pos + 2);
    if (end == std::string_view::npos)
      error("missing end of comment tag");
    char last = end > pos + 2 ? in[end - 1] : 0;
    bool signedEnd = (last == '-' || last == '+') && end - 1 >= pos + 2 + (sign ? 1 : 0);
    pos = end + 2;
    trimAfter(signedEnd ? last : 0, true);
  }

  /// {% raw %} ... {% endraw %}; `content` is behind the opening mark.
  bool rawBlock(size_t content) {
    size_t saved = pos;
    char sign = 0;
    pos = content;
    skipSpace();
    bool isRaw = at("raw");
    pos += isRaw ? 3 : 0;
    skipSpace();
    if (!isRaw || !closing("%}", sign) || sign == '+') {
      pos = saved;
      return false;
    }
    trimAfter(sign, false);
    size_t begin = pos;
    for (size_t open = pos; (open = in.find("{%", open)) != std::string_view::npos; open += 2) {
      pos = open + 2;
      char before = pos < in.size() && (in[pos] == '-' || in[pos] == '+') ? in[pos++] : 0;
      skipSpace();
      if (!at("endraw"))
        continue;
      pos += 6;
      skipSpace();
      if (!closing("%}", sign))
        continue;
      size_t behind = pos;
      pos = begin;
      text(trimBefore(in.substr(begin, open - begin), before, false));
      pos = behind;
      trimAfter(sign, true);
      return true;
    }
    pos = saved;
    error("missing end of raw directive");
  }

  void tag(bool isPrint) {
    std::string brackets;
    for (;;) {
      skipSpace();
      if (pos >= in.size())
        error(isPrint ? "unexpected end of template, expected }}"
                      : "unexpected end of template, expected %}");
      size_t start = pos;
      char sign = 0;
      if (brackets.empty() && closing(isPrint ? "}}" : "%}", sign)) {
        if (!isPrint || sign != '+') {
          size_t behind = pos;
          pos = start;
          push(isPrint ? Token::kPrintEnd : Token::kBlockEnd, "");
          pos = behind;
          return trimAfter(sign, !isPrint);
        }
        pos = start;
      }
      char c = in[pos];
      if (isNameStart(c)) {
        while (pos < in.size() && (isNameStart(in[pos]) || isDigit(in[pos])))
          ++pos;
        std::string name(in.substr(start, pos - start));
        size_t behind = pos;
        pos = start;
        push(Token::kName, std::move(name));
        pos = behind;
      } else if (isDigit(c)) {
        number();
      } else if (c == '\'' || c == '"') {
        string(c);
      } else {
        operatorToken(brackets);
      }
    }
  }

  void number() {
    size_t start = pos;
    std::string digits;
    bool real = false;
    auto take = [&] {
      while (pos < in.size() && (isDigit(in[pos]) ||
                                 (in[pos] == '_' && pos + 1 < in.size() && isDigit(in[pos + 1])))) {
        if (in[pos] != '_')
          digits += in[pos];
        ++pos;
      }
    };
    int base = 10;
    if (in[pos] == '0' && pos + 1 < in.size()) {
      char mark = static_cast<char>(in[pos + 1] | 0x20);
      base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
    }
    if (base != 10) {
      pos += 2;
      while (pos < in.size() && (std::isalnum(static_cast<uint8_t>(in[pos])) || in[pos] == '_')) {
        if (in[pos] != '_')
          digits += in[pos];
        ++pos;
      }
    } else {
      take();
      if (pos + 1 < in.size() && in[pos] == '.' && isDigit(in[pos + 1])) {
        real = true;
        digits += in[pos++];
        take();
      }
      if (pos < in.size() && (in[pos] | 0x20) == 'e') {
        size_t p = pos + 1;
        if (p < in.size() && (in[p] == '+' || in[p] == '-'))
          ++p;
        if (p < in.size() && isDigit(in[p])) {
          real = true;
          digits += in.substr(pos, p - pos);
          pos = p;
          take();
        }
      }
    }
    size_t behind = pos;
    pos = start;
    Token &token = push(real ? Token::kFloat : Token::kInteger, digits);
    if (real) {
      token.real = std::strtod(digits.c_str(), nullptr);
    } else {
      auto [end, code] =
          std::from_chars(digits.data(), digits.data() + digits.size(), token.integer, base);
      if (code != std::errc() || end != digits.data() + digits.size())
        error("the integer " + std::string(in.substr(start, behind - start)) +
              " is malformed or exceeds 64 bits");
    }
    pos = behind;
  }

  void string(char mark) {
    size_t start = pos;
    std::string out;
    for (++pos;;) {
      if (pos >= in.size()) {
        pos = start;
        error("unterminated string");
      }
      if (in[pos] == mark)
        break;
      if (in[pos] == '\\')
        escape(out);
      else
        out += in[pos++];
    }
    size_t behind = pos + 1;
    pos = start;
    push(Token::kString, std::move(out));
    pos = behind;
  }

  /// Python's escapes in a string literal; an unknown one keeps its backslash.
  void escape(std::string &out) {
    static constexpr std::string_view kNames = "ntr\\'\"abfv", kValues = "\n\t\r\\'\"\a\b\f\v";
    if (pos + 1 >= in.size()) {
      ++pos;
      return;
    }
    char c = in[pos + 1];
    if (c == '\n') {
      pos += 2;
      return;
    }
    if (size_t i = kNames.find(c); i != std::string_view::npos) {
      out += kValues[i];
      pos += 2;
      return;
    }
    size_t count = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    size_t first = pos + 2;
    int base = 16;
    if (c >= '0' && c <= '7') {
      first = pos + 1;
      base = 8;
      for (count = 1; count < 3 && first + count < in.size() && in[first + count] >= '0' &&
                      in[first + count] <= '7';)
        ++count;
    }
    if (count == 0) {
      out += in.substr(pos, 1);
      ++pos;
      return;
    }
    uint32_t value = 0;
    std::string_view digits = in.substr(first, count);
    auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    bool whole = digits.size() == count && code == std::errc() && end == digits.data() + count;
    if (!whole || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
      error("a malformed or surrogate escape in a string");
    appendUtf8(out, value);
    pos = first + count;
  }

  void operatorToken(std::string &brackets) {
    static constexpr std::string_view kTwo[] = {"//", "**", "==", "!=", ">=", "<="};
    static constexpr std::string_view kOne = "+-/*%~[](){}><=.:|,;";
    std::string_view found;
    for (std::string_view two : kTwo)
      if (at(two))
        found = in.substr(pos, 2);
    if (found.empty() && kOne.find(in[pos]) != std::string_view::npos)
      found = in.substr(pos, 1);
    if (found.empty())
      error("unexpected character '" + std::string(in.substr(pos, codePointSize(in[pos]))) + "'");
    char c = found[0];
    if (found.size() == 1 && (c == '(' || c == '[' || c == '{'))
      brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (brackets.empty() || brackets.back() != c)
        error("unexpected '" + std::string(found) + "'");
      brackets.pop_back();
    }
    push(Token::kOperator, std::string(found));
    pos += found.size();
  }

  std::string_view in;
  size_t pos = 0;
  bool lineStarting = true;
  std::vector<Token> tokens;
  size_t placed = 0;
  int line = 1, column = 1;
};

} // namespace

std::vector<Token> lex(std::string_view source) {
  std::string prepared = prepare(source);
  return Lexer(prepared).run();
}

} // namespace sluice::text::chat
