//===- Decoder.cpp - The "decoder" of a tokenizer.json ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Behind a Fuse, a step sees one string in parts. Strip and Fuse work on parts; every other step
// there, which no published tokenizer has, waits for the whole string.
//
//===------------------------------------------------------------------------===//
#include "runtime/text/Decoder.h"

#include "runtime/text/ByteLevel.h"
#include "runtime/text/Normalizer.h"
#include "runtime/text/Utf8.h"

namespace sluice::text {
namespace {

/// The byte of a token like <0x0A>, or -1.
int byteOfToken(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>')
    return -1;
  int value = 0;
  for (char c : token.substr(3, 2)) {
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
    if (digit < 0)
      return -1;
    value = value * 16 + digit;
  }
  return value;
}

std::string replaceAll(std::string_view text, std::string_view pattern, std::string_view content) {
  std::string out;
  size_t from = 0;
  for (size_t at; (at = text.find(pattern, from)) != std::string_view::npos;) {
    out += text.substr(from, at - from);
    out += content;
    from = at + pattern.size();
  }
  return out += text.substr(from);
}

/// Removes up to `limit` copies of `part` from the front of `text` and returns how many.
size_t dropFront(std::string_view &text, std::string_view part, size_t limit) {
  size_t count = 0;
  for (; count < limit && text.starts_with(part); ++count)
    text.remove_prefix(part.size());
  return count;
}

/// The same from the back.
size_t dropBack(std::string_view &text, std::string_view part, size_t limit) {
  size_t count = 0;
  for (; count < limit && text.ends_with(part); ++count)
    text.remove_suffix(part.size());
  return count;
}

std::string metaspace(const Decoder::Metaspace &step, std::string_view token, bool first) {
  return replaceAll(token, step.replacement, first && step.dropFirst ? "" : " ");
}

Result<std::string> oneCharacter(const json::Cursor &component, std::string_view key) {
  SLUICE_ASSIGN_OR_RETURN(std::string text, component.getString(key));
  if (text.empty() || codePointSize(text[0]) != text.size())
    return component.error(std::string(key) + " \"" + text + "\" is not one character");
  return text;
}

} // namespace

Result<Decoder> Decoder::fromJson(const json::Cursor &decoder) {
  Decoder result;
  if (decoder.value().isNull())
    result.add(Join{});
  else
    SLUICE_RETURN_IF_ERROR(result.append(decoder, 0));
  return result;
}

void Decoder::add(decltype(Step::kind) kind) {
  bool fused = false;
  for (const Step &step : steps)
    fused |=
        std::holds_alternative<Fuse>(step.kind) || std::holds_alternative<ByteLevel>(step.kind);
  steps.push_back({std::move(kind), fused});
}

Status Decoder::append(const json::Cursor &component, int depth) {
  SLUICE_ASSIGN_OR_RETURN(std::string type, component.getString("type"));
  if (type == "Sequence") {
    if (depth == kMaxSequenceDepth)
      return component.error("sequences nest deeper than " + std::to_string(kMaxSequenceDepth));
    SLUICE_ASSIGN_OR_RETURN(json::Cursor list, component.getArray("decoders"));
    for (size_t i = 0; i < list.value().size(); ++i) {
      SLUICE_ASSIGN_OR_RETURN(json::Cursor element, list.element(i));
      SLUICE_RETURN_IF_ERROR(append(element, depth + 1));
    }
  } else if (type == "ByteLevel") {
    add(ByteLevel{});
  } else if (type == "ByteFallback") {
    add(ByteFallback{});
  } else if (type == "Fuse") {
    add(Fuse{});
  } else if (type == "Replace") {
    SLUICE_ASSIGN_OR_RETURN(json::Cursor pattern, component.getObject("pattern"));
    if (pattern.has("Regex"))
      return unsupported(pattern.document() + ": key \"" + pattern.path() +
                         "\": a decoder's Replace with \"Regex\" is not supported; supported is "
                         "\"String\"");
    Replace step;
    SLUICE_ASSIGN_OR_RETURN(step.pattern, pattern.getString("String"));
    SLUICE_ASSIGN_OR_RETURN(step.content, component.getString("content"));
    if (step.pattern.empty())
      return pattern.error("the empty string cannot be replaced");
    add(std::move(step));
  } else if (type == "Strip") {
    Strip step;
    SLUICE_ASSIGN_OR_RETURN(step.content, oneCharacter(component, "content"));
    SLUICE_ASSIGN_OR_RETURN(int64_t start, component.getInt("start"));
    SLUICE_ASSIGN_OR_RETURN(int64_t stop, component.getInt("stop"));
    if (start < 0 || stop < 0)
      return component.error("start and stop are counts and cannot be negative");
    step.start = static_cast<size_t>(start);
    step.stop = static_cast<size_t>(stop);
    add(std::move(step));
  } else if (type == "Metaspace") {
    Metaspace step;
    SLUICE_ASSIGN_OR_RETURN(step.replacement, oneCharacter(component, "replacement"));
    SLUICE_ASSIGN_OR_RETURN(std::string scheme, component.getStringOr("prepend_scheme", "always"));
    SLUICE_ASSIGN_OR_RETURN(bool prefix, component.getBoolOr("add_prefix_space", true));
    if (scheme != "always" && scheme != "first" && scheme != "never")
      return component.error("prepend_scheme \"" + scheme + "\" is none of always, first, never");
    step.dropFirst = prefix && scheme != "never";
    add(std::move(step));
  } else {
    return unsupportedType(component, type,
                           "Sequence, ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace");
  }
  return Status::ok();
}

Decoder::Stream::Stream(const Decoder &decoder, bool eager)
    : decoder(&decoder), eager(eager), states(decoder.steps.size()) {}

void Decoder::Stream::push(std::string_view token, std::string &out) { pass(0, token, out); }

void Decoder::Stream::pass(size_t index, std::string_view token, std::string &out) {
  if (index == states.size()) {
    out += token;
    return;
  }
  const Step &step = decoder->steps[index];
  State &state = states[index];
  if (std::holds_alternative<Fuse>(step.kind))
    return pass(index + 1, token, out);
  if (auto *strip = std::get_if<Strip>(&step.kind)) {
    if (!step.fused) {
      dropFront(token, strip->content, strip->start);
      dropBack(token, strip->content, strip->stop);
      return pass(index + 1, token, out);
    }
    // `count` characters of the front are gone, until another character has been `begun`; at the
    // back, what may turn out to be the end waits.
    if (!state.begun) {
      state.count += dropFront(token, strip->content, strip->start - state.count);
      state.begun = !token.empty() || state.count == strip->start;
    }
    state.pending += token;
    std::string_view certain = state.pending;
    size_t held = dropBack(certain, strip->content, strip->stop) * strip->content.size();
    std::string ready(certain);
    state.pending.erase(0, state.pending.size() - held);
    return pass(index + 1, ready, out);
  }
  if (step.fused) {
    state.pending += token;
    return;
  }
  if (std::holds_alternative<ByteLevel>(step.kind)) {
    state.pending += bytesOfByteLevel(token);
    std::string ready;
    size_t pos = 0;
    while (pos < state.pending.size()) {
      Utf8Step next = examineUtf8(state.pending, pos);
      if (next.kind == Utf8Step::kIncomplete)
        break;
      ready += next.kind == Utf8Step::kValid
                   ? std::string_view(state.pending).substr(pos, next.size)
                   : kReplacement;
      pos += next.size;
    }
    state.pending.erase(0, pos);
    return pass(index + 1, ready, out);
  }
  if (std::holds_alternative<ByteFallback>(step.kind))
    return byteFallback(index, token, out);
  if (auto *replace = std::get_if<Replace>(&step.kind))
    return pass(index + 1, replaceAll(token, replace->pattern, replace->content), out);
  if (auto *meta = std::get_if<Metaspace>(&step.kind)) {
    bool first = !state.begun;
    state.begun = true;
    return pass(index + 1, metaspace(*meta, token, first), out);
  }
  // Join: one string with a space before every token but the first.
  std::string joined = (state.begun ? " " : "") + std::string(token);
  state.begun = true;
  pass(index + 1, joined, out);
}

void Decoder::Stream::byteFallback(size_t index, std::string_view token, std::string &out) {
  State &state = states[index];
  int byte = byteOfToken(token);
  if (byte < 0) {
    endByteRun(index, out);
    return pass(index + 1, token, out);
  }
  state.pending += static_cast<char>(byte);
  if (!eager)
    return;
  // An ill-formed byte makes the whole run replacement characters, one per byte.
  while (!state.pending.empty()) {
    Utf8Step next = examineUtf8(state.pending, 0);
    if (!state.illFormed && next.kind == Utf8Step::kIncomplete)
      return;
    state.illFormed |= next.kind != Utf8Step::kValid;
    size_t size = state.illFormed ? 1 : next.size;
    std::string ready = state.illFormed ? std::string(kReplacement) : state.pending.substr(0, size);
    state.pending.erase(0, size);
    pass(index + 1, ready, out);
  }
}

void Decoder::Stream::endByteRun(size_t index, std::string &out) {
  State &state = states[index];
  std::string run = std::exchange(state.pending, {});
  state.illFormed = false;
  if (run.empty())
    return;
  if (json::isValidUtf8(run))
    return pass(index + 1, run, out);
  for (size_t i = 0; i < run.size(); ++i)
    pass(index + 1, kReplacement, out);
}

void Decoder::Stream::finish(std::string &out) {
  for (size_t index = 0; index < states.size(); ++index) {
    const Step &step = decoder->steps[index];
    std::string rest = states[index].pending;
    if (std::holds_alternative<Strip>(step.kind) || rest.empty()) {
      // What a Strip still holds is the end that it takes away.
    } else if (!step.fused && std::holds_alternative<ByteFallback>(step.kind)) {
      endByteRun(index, out);
    } else if (std::holds_alternative<ByteLevel>(step.kind)) {
      pass(index + 1, replaceIllFormed(step.fused ? bytesOfByteLevel(rest) : rest), out);
    } else if (auto *replace = std::get_if<Replace>(&step.kind)) {
      pass(index + 1, replaceAll(rest, replace->pattern, replace->content), out);
    } else if (auto *meta = std::get_if<Metaspace>(&step.kind)) {
      pass(index + 1, metaspace(*meta, rest, true), out);
    } else {
      // A fused string is a byte token only if the whole text is one.
      int byte = byteOfToken(rest);
      std::string text = byte >= 0 ? std::string(1, static_cast<char>(byte)) : rest;
      pass(index + 1,
           std::holds_alternative<ByteFallback>(step.kind) ? replaceIllFormed(text) : rest, out);
    }
    states[index] = {};
  }
}

} // namespace sluice::text
