//===- ChatTemplateAst.h - The tree of a chat template ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Expressions and statements as two tagged structs: the kinds are many and small, and the evaluator
// is one switch over each.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_CHAT_TEMPLATE_AST_H
#define SLUICE_RUNTIME_TEXT_CHAT_TEMPLATE_AST_H

#include "runtime/text/ChatTemplateValue.h"

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::text::chat {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

/// Arguments of a call, a filter or a test.
struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> keyword;
};

struct Expression {
  enum Kind {
    kLiteral,     ///< value
    kName,        ///< name
    kList,        ///< parts
    kTuple,       ///< parts
    kDict,        ///< parts: key, value, key, value, ...
    kAttribute,   ///< parts[0] . name
    kItem,        ///< parts[0] [ parts[1] ]
    kSlice,       ///< parts[0] [ parts[1] : parts[2] : parts[3] ], null where left out
    kCall,        ///< parts[0] ( arguments )
    kFilter,      ///< parts[0] | name ( arguments ); no parts inside of a filter block
    kTest,        ///< parts[0] is name ( arguments )
    kNot,         ///< parts[0]
    kNegate,      ///< parts[0]
    kPlus,        ///< parts[0]
    kAnd,         ///< parts[0], parts[1]
    kOr,          ///< parts[0], parts[1]
    kBinary,      ///< parts[0] name parts[1], an arithmetic operator
    kConcat,      ///< parts, joined by ~
    kCompare,     ///< parts[0] names[0] parts[1] names[1] parts[2] ...
    kConditional, ///< parts[0] if parts[1] else parts[2], which may be null
  } kind;
  std::string name;
  std::vector<ExpressionPtr> parts;
  std::vector<std::string> names;
  CallArguments arguments;
  Value value;
  int height = 1; ///< of the tree; bounded, since the tree is walked and destroyed by recursion
  int line = 0, column = 0;
};

struct Statement;
using Block = std::vector<std::unique_ptr<Statement>>;

/// What a for loop or a set assigns to: one name, several that unpack a sequence, or an attribute
/// of a namespace.
struct Target {
  std::vector<std::string> names;
  std::string attribute;
  bool unpacks = false;
};

struct Parameter {
  std::string name;
  ExpressionPtr fallback; ///< null when the argument is required
};

/// The part of a macro that its calls need.
struct Macro {
  std::string name;
  std::vector<Parameter> parameters;
  Block body;
  bool takesVarargs = false, takesKwargs = false, takesCaller = false; ///< what the body mentions
};

struct Statement {
  enum Kind {
    kText,     ///< text
    kPrint,    ///< expression
    kIf,       ///< branches in order, the last condition null for else
    kFor,      ///< target in expression if condition: body else otherwise
    kSet,      ///< target = expression
    kSetBlock, ///< target = body through expression (a filter chain, may be null)
    kFilter,   ///< body through expression
    kMacro,    ///< macro
    kCall,     ///< expression is the call, macro its caller
    kWith,     ///< bindings: body
    kBreak,
    kContinue,
    kBlock, ///< body in the same scope (generation)
  } kind;
  std::string text;
  Target target;
  ExpressionPtr expression, condition;
  std::vector<std::pair<ExpressionPtr, Block>> branches;
  std::vector<std::pair<std::string, ExpressionPtr>> bindings;
  Block body, otherwise;
  std::shared_ptr<const Macro> macro;
  int line = 0, column = 0;
};

/// Names that the parser accepts, so that a misspelt one is found when the template is read.
bool isFilter(std::string_view name);
bool isTest(std::string_view name);

/// Parses `source` (valid UTF-8). Throws TemplateError.
Block parseTemplate(std::string_view source);

} // namespace sluice::text::chat

#endif // SLUICE_RUNTIME_TEXT_CHAT_TEMPLATE_AST_H
