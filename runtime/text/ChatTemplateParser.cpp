//===- ChatTemplateParser.cpp - From tokens to the tree ---------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Recursive descent with the precedences of jinja2/parser.py. Tags that load other templates and
// extensions that transformers does not enable are refused by name.
//
//===------------------------------------------------------------------------===//
#include "runtime/text/ChatTemplateAst.h"

#include "runtime/base/Format.h"
#include "runtime/text/ChatTemplateLexer.h"

#include <algorithm>
#include <initializer_list>

namespace sluice::text::chat {
namespace {

constexpr int kMaxDepth = 400;  // calls of the parser into itself
constexpr int kMaxHeight = 500; // of an expression: operators, filters, brackets

class Parser {
public:
  explicit Parser(std::string_view source) : tokens(lex(source)) {}

  Block run() {
    Block block = statements({});
    if (peek().kind != Token::kEnd)
      unexpected("the end of the template");
    return block;
  }

private:
  // Tokens.
  const Token &peek(size_t ahead = 0) const {
    return tokens[std::min(index + ahead, tokens.size() - 1)];
  }
  Token next() {
    Token token = peek();
    if (index + 1 < tokens.size())
      ++index;
    return token;
  }
  bool isOperator(std::string_view text) const {
    return peek().kind == Token::kOperator && peek().text == text;
  }
  bool isName(std::string_view text) const {
    return peek().kind == Token::kName && peek().text == text;
  }
  bool takeOperator(std::string_view text) { return isOperator(text) && (next(), true); }
  bool takeName(std::string_view text) { return isName(text) && (next(), true); }
  void expectOperator(std::string_view text) {
    if (!takeOperator(text))
      unexpected("'" + std::string(text) + "'");
  }
  void expectKind(Token::Kind kind, const char *what) {
    if (peek().kind != kind)
      unexpected(what);
    next();
  }
  std::string expectIdentifier() {
    if (peek().kind != Token::kName)
      unexpected("a name");
    return next().text;
  }

  [[noreturn]] void error(std::string message) const { errorAt(peek(), std::move(message)); }
  [[noreturn]] static void errorAt(const Token &token, std::string message) {
    throw TemplateError{TemplateError::kSyntax, std::move(message), token.line, token.column};
  }
  [[noreturn]] void unexpected(const std::string &wanted) const {
    const Token &token = peek();
    std::string found;
    switch (token.kind) {
    case Token::kText:
      found = "text";
      break;
    case Token::kPrintBegin:
      found = "'{{'";
      break;
    case Token::kPrintEnd:
      found = "'}}'";
      break;
    case Token::kBlockBegin:
      found = "'{%'";
      break;
    case Token::kBlockEnd:
      found = "'%}'";
      break;
    case Token::kString:
      found = "a string";
      break;
    case Token::kEnd:
      found = "the end of the template";
      break;
    default:
      found = "'" + token.text + "'";
    }
    error("expected " + wanted + ", found " + found);
  }

  struct Nesting {
    explicit Nesting(Parser &parser) : parser(parser) {
      if (++parser.depth > kMaxDepth)
        parser.error(format("the template nests deeper than %d", kMaxDepth));
    }
    ~Nesting() { --parser.depth; }
    Parser &parser;
  };

  // Statements.
  Block statements(std::initializer_list<std::string_view> ends) {
    Nesting nesting(*this);
    Block block;
    for (;;) {
      const Token &token = peek();
      if (token.kind == Token::kText) {
        auto statement = make(Statement::kText);
        statement->text = next().text;
        block.push_back(std::move(statement));
      } else if (token.kind == Token::kPrintBegin) {
        auto statement = make(Statement::kPrint);
        next();
        statement->expression = tuple();
        expectKind(Token::kPrintEnd, "'}}'");
        block.push_back(std::move(statement));
      } else if (token.kind == Token::kBlockBegin) {
        const Token &name = peek(1);
        if (name.kind == Token::kName &&
            std::find(ends.begin(), ends.end(), name.text) != ends.end()) {
          next();
          return block;
        }
        block.push_back(tag());
      } else {
        if (ends.size() > 0)
          unexpected("'{% " + std::string(*(ends.end() - 1)) + " %}'");
        return block;
      }
    }
  }

  std::unique_ptr<Statement> make(Statement::Kind kind) const {
    auto statement = std::make_unique<Statement>();
    statement->kind = kind;
    statement->line = peek().line;
    statement->column = peek().column;
    return statement;
  }

  void endBlock() { expectKind(Token::kBlockEnd, "'%}'"); }

  /// The body of a tag up to and including its end tag.
  Block body(std::string_view end) {
    endBlock();
    Block block = statements({end});
    next();
    return block;
  }

  std::unique_ptr<Statement> tag() {
    auto statement = make(Statement::kBlock);
    next();
    if (peek().kind != Token::kName)
      unexpected("the name of a tag");
    Token name = next();
    if (name.text == "if")
      ifTag(*statement);
    else if (name.text == "for")
      forTag(*statement);
    else if (name.text == "set")
      setTag(*statement);
    else if (name.text == "macro")
      macroTag(*statement);
    else if (name.text == "call")
      callTag(*statement);
    else if (name.text == "filter") {
      statement->kind = Statement::kFilter;
      statement->expression = filterChain(nullptr, true);
      statement->body = body("endfilter");
    } else if (name.text == "with") {
      statement->kind = Statement::kWith;
      while (peek().kind != Token::kBlockEnd) {
        if (!statement->bindings.empty())
          expectOperator(",");
        std::string bound = expectIdentifier();
        expectOperator("=");
        statement->bindings.emplace_back(std::move(bound), expression());
      }
      statement->body = body("endwith");
    } else if (name.text == "generation") {
      statement->body = body("endgeneration");
    } else if (name.text == "break" || name.text == "continue") {
      if (loops == 0)
        errorAt(name, "'" + name.text + "' outside of a loop");
      statement->kind = name.text == "break" ? Statement::kBreak : Statement::kContinue;
    } else {
      errorAt(name, "the tag '" + name.text +
                        "' is unknown or not supported; supported are if, for, set, macro, call, "
                        "filter, with, raw, generation, break, continue");
    }
    endBlock();
    return statement;
  }

  void ifTag(Statement &statement) {
    statement.kind = Statement::kIf;
    ExpressionPtr condition = tuple(false);
    for (;;) {
      endBlock();
      Block block = statements({"elif", "else", "endif"});
      statement.branches.emplace_back(std::move(condition), std::move(block));
      if (takeName("elif")) {
        condition = tuple(false);
        continue;
      }
      if (takeName("else"))
        statement.branches.emplace_back(nullptr, body("endif"));
      else
        next();
      return;
    }
  }

  void forTag(Statement &statement) {
    statement.kind = Statement::kFor;
    statement.target = target();
    if (!takeName("in"))
      unexpected("'in'");
    statement.expression = tuple(false);
    if (takeName("if"))
      statement.condition = expression();
    if (isName("recursive"))
      error("'recursive' loops are not supported");
    endBlock();
    ++loops;
    statement.body = statements({"endfor", "else"});
    --loops;
    if (takeName("else"))
      statement.otherwise = body("endfor");
    else
      next();
  }

  Target target() {
    Target result;
    bool parentheses = takeOperator("(");
    do {
      if (!result.names.empty() && peek().kind != Token::kName)
        break; // a trailing comma
      result.names.push_back(assignable());
      if (takeOperator(".")) {
        result.attribute = expectIdentifier();
        break;
      }
      result.unpacks |= isOperator(",");
    } while (takeOperator(","));
    if (parentheses)
      expectOperator(")");
    return result;
  }

  std::string assignable() {
    Token token = peek();
    std::string name = expectIdentifier();
    for (std::string_view reserved : {"true", "false", "none", "True", "False", "None"})
      if (name == reserved)
        errorAt(token, "can't assign to '" + name + "'");
    return name;
  }

  void setTag(Statement &statement) {
    statement.target = target();
    if (takeOperator("=")) {
      statement.kind = Statement::kSet;
      statement.expression = tuple();
      return;
    }
    statement.kind = Statement::kSetBlock;
    if (isOperator("|"))
      statement.expression = filterChain(nullptr, false);
    statement.body = body("endset");
  }

  std::vector<Parameter> parameters() {
    std::vector<Parameter> result;
    expectOperator("(");
    while (!takeOperator(")")) {
      if (!result.empty())
        expectOperator(",");
      Parameter parameter;
      parameter.name = assignable();
      if (takeOperator("="))
        parameter.fallback = expression();
      else if (!result.empty() && result.back().fallback)
        error("a parameter without default follows one with a default");
      result.push_back(std::move(parameter));
    }
    return result;
  }

  void macroTag(Statement &statement) {
    statement.kind = Statement::kMacro;
    auto macro = std::make_shared<Macro>();
    macro->name = assignable();
    macro->parameters = parameters();
    macroBody(*macro, "endmacro");
    statement.macro = std::move(macro);
  }

  void callTag(Statement &statement) {
    statement.kind = Statement::kCall;
    auto macro = std::make_shared<Macro>();
    macro->name = "caller";
    if (isOperator("("))
      macro->parameters = parameters();
    statement.expression = expression();
    if (statement.expression->kind != Expression::kCall)
      error("expected a call");
    macroBody(*macro, "endcall");
    statement.macro = std::move(macro);
  }

  /// A loop around a macro is none of the macro's.
  void macroBody(Macro &macro, std::string_view end) {
    int outerLoops = std::exchange(loops, 0);
    Macro *outer = std::exchange(inside, &macro);
    macro.body = body(end);
    inside = outer;
    loops = outerLoops;
  }

  // Expressions.
  ExpressionPtr node(Expression::Kind kind) const {
    auto result = std::make_unique<Expression>();
    result->kind = kind;
    result->line = peek().line;
    result->column = peek().column;
    return result;
  }

  /// Makes `child` a part of `parent`; null stands for a part that is left out.
  void adopt(Expression &parent, ExpressionPtr child) const {
    if (child)
      grow(parent, *child);
    parent.parts.push_back(std::move(child));
  }
  void grow(Expression &parent, const Expression &child) const {
    parent.height = std::max(parent.height, child.height + 1);
    if (parent.height > kMaxHeight)
      error(format("an expression of more than %d levels", kMaxHeight));
  }

  ExpressionPtr with(Expression::Kind kind, ExpressionPtr first, ExpressionPtr second = nullptr) {
    auto result = node(kind);
    result->line = first->line;
    result->column = first->column;
    adopt(*result, std::move(first));
    if (second)
      adopt(*result, std::move(second));
    return result;
  }

  /// One expression, or several with commas between them as a tuple.
  ExpressionPtr tuple(bool conditional = true) {
    auto one = [&] { return conditional ? expression() : disjunction(); };
    ExpressionPtr first = one();
    if (!isOperator(","))
      return first;
    auto result = with(Expression::kTuple, std::move(first));
    while (takeOperator(",")) {
      if (peek().kind == Token::kPrintEnd || peek().kind == Token::kBlockEnd || isOperator(")"))
        break;
      adopt(*result, one());
    }
    return result;
  }

  ExpressionPtr expression() {
    Nesting nesting(*this);
    ExpressionPtr value = disjunction();
    while (takeName("if")) {
      auto result = with(Expression::kConditional, std::move(value), disjunction());
      adopt(*result, takeName("else") ? expression() : nullptr);
      value = std::move(result);
    }
    return value;
  }

  ExpressionPtr disjunction() {
    Nesting nesting(*this);
    ExpressionPtr left = conjunction();
    while (takeName("or"))
      left = with(Expression::kOr, std::move(left), conjunction());
    return left;
  }

  ExpressionPtr conjunction() {
    ExpressionPtr left = negation();
    while (takeName("and"))
      left = with(Expression::kAnd, std::move(left), negation());
    return left;
  }

  ExpressionPtr negation() {
    Nesting nesting(*this);
    if (!isName("not"))
      return comparison();
    auto result = node(Expression::kNot);
    next();
    adopt(*result, negation());
    return result;
  }

  ExpressionPtr comparison() {
    ExpressionPtr left = sum();
    ExpressionPtr result;
    for (;;) {
      std::string op;
      if (peek().kind == Token::kOperator)
        for (std::string_view known : {"==", "!=", "<", "<=", ">", ">="})
          if (peek().text == known)
            op = known;
      if (isName("in"))
        op = "in";
      bool notIn = isName("not") && peek(1).kind == Token::kName && peek(1).text == "in";
      if (notIn) {
        next();
        op = "not in";
      }
      if (op.empty())
        break;
      next();
      if (!result)
        result = with(Expression::kCompare, std::move(left));
      result->names.push_back(op);
      adopt(*result, sum());
    }
    return result ? std::move(result) : std::move(left);
  }

  ExpressionPtr binary(std::string op, ExpressionPtr left, ExpressionPtr right) {
    auto result = with(Expression::kBinary, std::move(left), std::move(right));
    result->name = std::move(op);
    return result;
  }

  ExpressionPtr sum() {
    ExpressionPtr left = concatenation();
    while (isOperator("+") || isOperator("-")) {
      std::string op = next().text;
      left = binary(op, std::move(left), concatenation());
    }
    return left;
  }

  ExpressionPtr concatenation() {
    ExpressionPtr left = product();
    if (!isOperator("~"))
      return left;
    auto result = with(Expression::kConcat, std::move(left));
    while (takeOperator("~"))
      adopt(*result, product());
    return result;
  }

  ExpressionPtr product() {
    ExpressionPtr left = power();
    while (isOperator("*") || isOperator("/") || isOperator("//") || isOperator("%")) {
      std::string op = next().text;
      left = binary(op, std::move(left), power());
    }
    return left;
  }

  ExpressionPtr power() {
    ExpressionPtr left = unary();
    while (takeOperator("**"))
      left = binary("**", std::move(left), unary());
    return left;
  }

  ExpressionPtr unary(bool filtered = true) {
    Nesting nesting(*this);
    ExpressionPtr value;
    if (isOperator("-") || isOperator("+")) {
      value = node(isOperator("-") ? Expression::kNegate : Expression::kPlus);
      next();
      adopt(*value, unary(false));
    } else {
      value = postfixes(primary());
    }
    return filtered ? filters(std::move(value)) : std::move(value);
  }

  ExpressionPtr literal(Value value) {
    auto result = node(Expression::kLiteral);
    result->value = std::move(value);
    next();
    return result;
  }

  ExpressionPtr primary() {
    const Token &token = peek();
    switch (token.kind) {
    case Token::kName: {
      if (token.text == "true" || token.text == "True")
        return literal(Value(true));
      if (token.text == "false" || token.text == "False")
        return literal(Value(false));
      if (token.text == "none" || token.text == "None")
        return literal(Value());
      auto result = node(Expression::kName);
      result->name = next().text;
      if (inside) {
        inside->takesVarargs |= result->name == "varargs";
        inside->takesKwargs |= result->name == "kwargs";
        inside->takesCaller |= result->name == "caller";
      }
      return result;
    }
    case Token::kString: {
      auto result = node(Expression::kLiteral);
      std::string text;
      while (peek().kind == Token::kString)
        text += next().text;
      result->value = Value(std::move(text));
      return result;
    }
    case Token::kInteger:
      return literal(Value(token.integer));
    case Token::kFloat:
      return literal(Value(token.real));
    default:
      break;
    }
    if (isOperator("("))
      return parenthesis();
    if (isOperator("["))
      return list();
    if (isOperator("{"))
      return dict();
    unexpected("an expression");
  }

  ExpressionPtr parenthesis() {
    auto empty = node(Expression::kTuple);
    next();
    if (takeOperator(")"))
      return empty;
    ExpressionPtr inner = tuple();
    expectOperator(")");
    return inner;
  }

  ExpressionPtr list() {
    auto result = node(Expression::kList);
    next();
    while (!takeOperator("]")) {
      if (!result->parts.empty()) {
        expectOperator(",");
        if (takeOperator("]"))
          break;
      }
      adopt(*result, expression());
    }
    return result;
  }

  ExpressionPtr dict() {
    auto result = node(Expression::kDict);
    next();
    while (!takeOperator("}")) {
      if (!result->parts.empty()) {
        expectOperator(",");
        if (takeOperator("}"))
          break;
      }
      adopt(*result, expression());
      expectOperator(":");
      adopt(*result, expression());
    }
    return result;
  }

  ExpressionPtr postfixes(ExpressionPtr value) {
    for (;;) {
      if (takeOperator(".")) {
        if (peek().kind == Token::kInteger) {
          value = with(Expression::kItem, std::move(value), literal(Value(peek().integer)));
        } else {
          std::string name = expectIdentifier();
          value = with(Expression::kAttribute, std::move(value));
          value->name = std::move(name);
        }
      } else if (takeOperator("[")) {
        value = subscript(std::move(value));
      } else if (isOperator("(")) {
        value = with(Expression::kCall, std::move(value));
        arguments(*value);
      } else {
        return value;
      }
    }
  }

  ExpressionPtr subscript(ExpressionPtr object) {
    ExpressionPtr first;
    if (!isOperator(":"))
      first = tuple();
    if (!isOperator(":")) {
      expectOperator("]");
      return with(Expression::kItem, std::move(object), std::move(first));
    }
    auto result = with(Expression::kSlice, std::move(object));
    adopt(*result, std::move(first));
    for (int i = 0; i < 2; ++i) {
      bool given = takeOperator(":") && !isOperator("]") && !isOperator(":");
      adopt(*result, given ? expression() : nullptr);
    }
    expectOperator("]");
    return result;
  }

  void positional(Expression &call, ExpressionPtr value) const {
    grow(call, *value);
    call.arguments.positional.push_back(std::move(value));
  }

  void arguments(Expression &call) {
    expectOperator("(");
    for (bool first = true; !takeOperator(")"); first = false) {
      if (!first) {
        expectOperator(",");
        if (takeOperator(")"))
          break;
      }
      if (isOperator("*") || isOperator("**"))
        error("unpacked arguments are not supported");
      if (peek().kind == Token::kName && peek(1).kind == Token::kOperator && peek(1).text == "=") {
        std::string name = next().text;
        next();
        ExpressionPtr value = expression();
        grow(call, *value);
        call.arguments.keyword.emplace_back(std::move(name), std::move(value));
      } else if (!call.arguments.keyword.empty()) {
        error("a positional argument follows a named one");
      } else {
        positional(call, expression());
      }
    }
  }

  std::string dottedName() {
    std::string name = expectIdentifier();
    while (takeOperator("."))
      name += "." + expectIdentifier();
    return name;
  }

  ExpressionPtr filters(ExpressionPtr value) {
    for (;;) {
      if (isOperator("|"))
        value = filterChain(std::move(value), false);
      else if (isName("is"))
        value = test(std::move(value));
      else if (isOperator("("))
        value = postfixes(std::move(value));
      else
        return value;
    }
  }

  /// One or more filters; `inlineFirst` for a filter block, whose first has no bar.
  ExpressionPtr filterChain(ExpressionPtr value, bool inlineFirst) {
    for (; inlineFirst || takeOperator("|"); inlineFirst = false) {
      Token at = peek();
      auto result = node(Expression::kFilter);
      result->name = dottedName();
      if (!isFilter(result->name))
        errorAt(at, "no filter named '" + result->name + "'");
      if (value)
        adopt(*result, std::move(value));
      if (isOperator("("))
        arguments(*result);
      value = std::move(result);
    }
    return value;
  }

  ExpressionPtr test(ExpressionPtr value) {
    next();
    bool negated = takeName("not");
    Token at = peek();
    auto result = with(Expression::kTest, std::move(value));
    result->line = at.line;
    result->column = at.column;
    result->name = dottedName();
    if (!isTest(result->name))
      errorAt(at, "no test named '" + result->name + "'");
    const Token &token = peek();
    bool starts = token.kind == Token::kString || token.kind == Token::kInteger ||
                  token.kind == Token::kFloat || isOperator("[") || isOperator("{") ||
                  (token.kind == Token::kName && token.text != "else" && token.text != "or" &&
                   token.text != "and");
    if (isOperator("(")) {
      arguments(*result);
    } else if (starts) {
      if (isName("is"))
        error("tests cannot be chained with 'is'");
      positional(*result, postfixes(primary()));
    }
    return negated ? with(Expression::kNot, std::move(result)) : std::move(result);
  }

  std::vector<Token> tokens;
  size_t index = 0;
  int depth = 0, loops = 0;
  Macro *inside = nullptr;
};

} // namespace

Block parseTemplate(std::string_view source) { return Parser(source).run(); }

} // namespace sluice::text::chat
