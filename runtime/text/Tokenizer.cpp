//===- Tokenizer.cpp - Text to token ids and back ---------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The pipeline of Hugging Face `tokenizers`: added tokens, normalizer, pre-tokenizer, model,
// post-processor; and for decoding the decoder. "truncation" and "padding" of a file are settings
// of its last caller, which transformers resets, and are not applied.
//
//===------------------------------------------------------------------------===//
#include "sluice/tokenizer.h"

#include "runtime/base/File.h"
#include "runtime/base/Format.h"
#include "runtime/base/Json.h"
#include "runtime/text/AddedTokens.h"
#include "runtime/text/BytePairModel.h"
#include "runtime/text/Decoder.h"
#include "runtime/text/Normalizer.h"
#include "runtime/text/PieceList.h"
#include "runtime/text/PostProcessor.h"
#include "runtime/text/PreTokenizer.h"
#include "runtime/text/Utf8.h"

#include <algorithm>

namespace sluice {

using namespace text;

struct Tokenizer::Impl {
  BytePairModel model;
  Normalizer normalizer;
  AddedTokens added;
  PreTokenizer preTokenizer;
  PostProcessor postProcessor;
  Decoder decoder;
  int32_t vocabSize = 0;

  /// What decoding starts from; null for an id without a token.
  const std::string *decodedToken(int32_t id) const {
    if (const AddedToken *token = added.find(id))
      return &token->decoded;
    return model.token(id);
  }

  Status checkId(int32_t id) const {
    if (id >= 0 && id < vocabSize)
      return Status::ok();
    return invalidArgument(format("token id %d is outside the vocabulary of %d ids; is this the "
                                  "tokenizer of the model",
                                  id, vocabSize));
  }

  Status decodeOne(int32_t id, DecodeOptions options, Decoder::Stream &stream,
                   std::string &out) const {
    SLUICE_RETURN_IF_ERROR(checkId(id));
    const std::string *token = decodedToken(id);
    if (token && !(options.skipSpecialTokens && added.isSpecial(*token)))
      stream.push(*token, out);
    return Status::ok();
  }
};

/// The value of an optional key, as a place that may hold null.
static json::Cursor optional(const json::Cursor &root, std::string_view key) {
  static const json::Value null;
  return root.has(key) ? root.get(key).value() : json::Cursor(null, root.document());
}

Result<Tokenizer> Tokenizer::fromFile(const std::string &path) {
  SLUICE_ASSIGN_OR_RETURN(std::string text, readFile(path));
  return fromJson(text, path);
}

Result<Tokenizer> Tokenizer::fromJson(std::string_view text, std::string_view name) {
  SLUICE_ASSIGN_OR_RETURN(json::Value value, json::parse(text, name));
  json::Cursor root(value, std::string(name));
  SLUICE_ASSIGN_OR_RETURN(std::string version, root.getStringOr("version", "1.0"));
  if (version != "1.0")
    return unsupported(root.document() + ": key \"version\": \"" + version +
                       "\" is not supported; supported is \"1.0\"");
  SLUICE_ASSIGN_OR_RETURN(json::Cursor model, root.getObject("model"));
  auto result = std::make_shared<Impl>();
  SLUICE_ASSIGN_OR_RETURN(result->model, BytePairModel::fromJson(model));
  SLUICE_ASSIGN_OR_RETURN(result->normalizer, Normalizer::fromJson(optional(root, "normalizer")));
  SLUICE_ASSIGN_OR_RETURN(result->added,
                          AddedTokens::fromJson(root, result->model, result->normalizer));
  SLUICE_ASSIGN_OR_RETURN(result->preTokenizer,
                          PreTokenizer::fromJson(optional(root, "pre_tokenizer")));
  SLUICE_ASSIGN_OR_RETURN(result->postProcessor,
                          PostProcessor::fromJson(optional(root, "post_processor")));
  SLUICE_ASSIGN_OR_RETURN(result->decoder, Decoder::fromJson(optional(root, "decoder")));
  result->vocabSize = std::max(result->model.maxId(), result->added.maxId()) + 1;
  return Tokenizer(std::move(result));
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view input, bool addSpecial) const {
  std::string repaired;
  if (!json::isValidUtf8(input)) {
    repaired = replaceIllFormed(input);
    input = repaired;
  }
  PieceList pieces(input);
  MatchScratch scratch;
  SLUICE_RETURN_IF_ERROR(impl->added.extract(pieces, impl->normalizer, scratch));
  SLUICE_RETURN_IF_ERROR(impl->preTokenizer.apply(pieces, scratch));
  std::vector<int32_t> ids;
  ids.reserve(input.size() / 3);
  BytePairModel::Cache cache;
  for (const Piece &piece : pieces.all()) {
    if (piece.token >= 0)
      ids.push_back(piece.token);
    else
      SLUICE_RETURN_IF_ERROR(impl->model.encode(pieces.view(piece), cache, ids));
  }
  return impl->postProcessor.apply(std::move(ids), addSpecial);
}

Result<std::string> Tokenizer::decode(std::span<const int32_t> ids, DecodeOptions options) const {
  Decoder::Stream stream(impl->decoder, /*eager=*/false);
  std::string out;
  for (int32_t id : ids)
    SLUICE_RETURN_IF_ERROR(impl->decodeOne(id, options, stream, out));
  stream.finish(out);
  return out;
}

int32_t Tokenizer::vocabSize() const { return impl->vocabSize; }

Result<std::string> Tokenizer::tokenString(int32_t id) const {
  SLUICE_RETURN_IF_ERROR(impl->checkId(id));
  if (const AddedToken *token = impl->added.find(id))
    return token->content;
  if (const std::string *token = impl->model.token(id))
    return *token;
  return notFound(format("no token has the id %d", id));
}

std::optional<int32_t> Tokenizer::tokenId(std::string_view token) const {
  if (std::optional<int32_t> id = impl->added.find(token))
    return id;
  return impl->model.find(token);
}

bool Tokenizer::isSpecial(int32_t id) const {
  const std::string *token = impl->decodedToken(id);
  return token && impl->added.isSpecial(*token);
}

struct StreamDecoder::State {
  std::shared_ptr<const Tokenizer::Impl> tokenizer;
  DecodeOptions options;
  Decoder::Stream stream;
};

StreamDecoder::StreamDecoder(const Tokenizer &tokenizer, DecodeOptions options)
    : state(new State{tokenizer.impl, options,
                      Decoder::Stream(tokenizer.impl->decoder, /*eager=*/true)}) {}
StreamDecoder::StreamDecoder(StreamDecoder &&) noexcept = default;
StreamDecoder &StreamDecoder::operator=(StreamDecoder &&) noexcept = default;
StreamDecoder::~StreamDecoder() = default;

Result<std::string> StreamDecoder::push(int32_t id) {
  std::string out;
  SLUICE_RETURN_IF_ERROR(state->tokenizer->decodeOne(id, state->options, state->stream, out));
  return out;
}

std::string StreamDecoder::flush() {
  std::string out;
  state->stream.finish(out);
  return out;
}

} // namespace sluice
