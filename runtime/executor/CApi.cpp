//===- CApi.cpp - The C interface of the Sluice runtime ---------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Thin: arguments in, the C++ call, results out. Two things are its own: no exception leaves (an
// allocation may fail), and structures are copied by the size their caller knows.
//
//===------------------------------------------------------------------------===//
#include "sluice.h"

#include "runtime/base/Version.h"
#include "sluice/engine.h"
#include "sluice/generator.h"
#include "sluice/tokenizer.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <optional>

using namespace sluice;

struct sluice_status {
  StatusCode code;
  std::string message;
};

struct sluice_engine {
  std::unique_ptr<Engine> engine;
  std::vector<StepEntry> entries; ///< of the current step; sized at load
  std::vector<StepOutput> outputs;
};

struct sluice_tokenizer {
  Tokenizer tokenizer;
};

struct sluice_decoder {
  StreamDecoder decoder;
  std::string text;
};

namespace {

static_assert(int(StatusCode::kCheckFailed) == SLUICE_CHECK_FAILED &&
              int(StatusCode::kInvalidArgument) == SLUICE_INVALID_ARGUMENT &&
              int(StatusCode::kIo) == SLUICE_IO);
static_assert(int(FinishReason::kCancelled) == SLUICE_FINISH_CANCELLED);

sluice_status outOfMemory{StatusCode::kResourceExhausted, "out of memory"};

sluice_status *release(const Status &status) {
  if (status.isOk())
    return nullptr;
  auto *out = new (std::nothrow) sluice_status{status.code(), {}};
  if (!out)
    return &outOfMemory;
  // The location is of interest to whoever reads the message; the code is separate here.
  std::string text = status.toString(), prefix = std::string(statusCodeName(status.code())) + ": ";
  out->message = text.substr(prefix.size());
  return out;
}

/// Runs `body`, which returns a Status, and keeps exceptions inside.
template <typename Body> sluice_status *guarded(const Body &body) {
  try {
    return release(body());
  } catch (const std::bad_alloc &) {
    return &outOfMemory;
  } catch (...) {
    return release(internalError("an unexpected exception was caught at the C interface"));
  }
}

Status requireArgument(const void *pointer, const char *name) {
  return pointer ? Status::ok() : invalidArgument(std::string(name) + " is NULL");
}

/// The size of a structure in the first version of the library; no smaller one was ever published.
template <typename T> constexpr size_t kFirstSize = sizeof(T);
template <>
constexpr size_t kFirstSize<sluice_load_options> = offsetof(sluice_load_options, collectives);
template <> constexpr size_t kFirstSize<sluice_info> = offsetof(sluice_info, first_rank);

template <typename T> Status checkSize(size_t size, const char *name) {
  if (size >= kFirstSize<T>)
    return Status::ok();
  return invalidArgument("struct_size of " + std::string(name) + " is " + std::to_string(size) +
                         ", less than " + std::to_string(kFirstSize<T>) + "; set it to sizeof");
}

/// A full-size copy of a caller's structure: fields the caller does not know keep those of
/// `defaults`.
template <typename T> Result<T> readStruct(const T *from, T defaults, const char *name) {
  if (!from)
    return defaults;
  SLUICE_RETURN_IF_ERROR(checkSize<T>(from->struct_size, name));
  std::memcpy(static_cast<void *>(&defaults), from, std::min(from->struct_size, sizeof(T)));
  return defaults;
}

/// Copies what the caller's structure has room for.
template <typename T> Status writeStruct(T value, T *to, const char *name) {
  const size_t size = to->struct_size;
  SLUICE_RETURN_IF_ERROR(checkSize<T>(size, name));
  value.struct_size = size;
  std::memcpy(static_cast<void *>(to), &value, std::min(size, sizeof(T)));
  return Status::ok();
}

Result<SamplingOptions> samplingOf(const sluice_sampling *from) {
  SLUICE_ASSIGN_OR_RETURN(sluice_sampling s,
                          readStruct<sluice_sampling>(from, SLUICE_SAMPLING_INIT, "sampling"));
  return SamplingOptions{
      .temperature = s.temperature, .topK = s.top_k, .topP = s.top_p, .seed = s.seed};
}

/// Hands `content` out by the capacity rule of the tokenizer functions.
template <typename T>
Status copyOut(const T *content, size_t count, T *out, size_t capacity, size_t *outCount) {
  *outCount = count;
  if (count > capacity)
    return resourceExhausted("the result has " + std::to_string(count) +
                             " elements, but the buffer has room for " + std::to_string(capacity));
  if (count > 0)
    std::memcpy(out, content, count * sizeof(T));
  return Status::ok();
}

} // namespace

//===------------------------------------------------------------------------===//
// Status
//===------------------------------------------------------------------------===//

const char *sluice_version(void) { return kVersion; }

sluice_code sluice_status_code(const sluice_status *status) {
  return status ? static_cast<sluice_code>(status->code) : SLUICE_OK;
}

const char *sluice_status_message(const sluice_status *status) {
  return status ? status->message.c_str() : "";
}

void sluice_status_free(sluice_status *status) {
  if (status != &outOfMemory)
    delete status;
}

//===------------------------------------------------------------------------===//
// Engine
//===------------------------------------------------------------------------===//

sluice_status *sluice_engine_load(const char *path, const sluice_load_options *options,
                                  sluice_engine **out_engine) {
  return guarded([&]() -> Status {
    SLUICE_RETURN_IF_ERROR(requireArgument(out_engine, "out_engine"));
    *out_engine = nullptr;
    SLUICE_RETURN_IF_ERROR(requireArgument(path, "path"));
    SLUICE_ASSIGN_OR_RETURN(
        sluice_load_options o,
        readStruct<sluice_load_options>(options, SLUICE_LOAD_OPTIONS_INIT, "options"));
    LoadOptions load{
        .device = o.device ? o.device : "host", .threads = o.threads, .verify = o.verify != 0};
    if (o.collectives)
      load.collectives = o.collectives;
    if (o.collective_timeout_seconds != 0)
      load.collectiveTimeout = o.collective_timeout_seconds;
    SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, Engine::load(path, load));
    auto out = std::make_unique<sluice_engine>();
    out->entries.reserve(static_cast<size_t>(engine->info().maxSeqs));
    out->outputs.reserve(static_cast<size_t>(engine->info().maxSeqs));
    out->engine = std::move(engine);
    *out_engine = out.release();
    return Status::ok();
  });
}

void sluice_engine_free(sluice_engine *engine) { delete engine; }

sluice_status *sluice_engine_info(const sluice_engine *engine, sluice_info *out_info) {
  return guarded([&]() -> Status {
    SLUICE_RETURN_IF_ERROR(requireArgument(engine, "engine"));
    SLUICE_RETURN_IF_ERROR(requireArgument(out_info, "out_info"));
    const EngineInfo &info = engine->engine->info();
    sluice_info out{};
    out.name = info.name.c_str();
    out.family = info.family.c_str();
    out.target = info.target.c_str();
    out.vocab_size = info.vocabSize;
    out.hidden_size = info.hiddenSize;
    out.num_layers = info.numLayers;
    out.num_experts = info.numExperts;
    out.top_k = info.topK;
    out.num_ranks = info.numRanks;
    out.max_batch_tokens = info.maxBatchTokens;
    out.max_seqs = info.maxSeqs;
    out.max_seq_len = info.maxSeqLen;
    out.max_logit_rows = info.maxLogitRows;
    out.page_size = info.pageSize;
    out.num_pages = info.numPages;
    out.bos_token_id = info.bosTokenId;
    out.eos_token_ids = info.eosTokenIds.data();
    out.num_eos_token_ids = info.eosTokenIds.size();
    out.weight_bytes = info.weightBytes;
    out.kv_bytes = info.kvBytes;
    out.arena_bytes = info.arenaBytes;
    out.io_bytes = info.ioBytes;
    out.load_seconds = info.loadSeconds;
    out.first_rank = info.firstRank;
    out.num_local_ranks = info.numLocalRanks;
    out.tp = info.tp;
    out.ep = info.ep;
    out.dp = info.dp;
    return writeStruct(out, out_info, "out_info");
  });
}

sluice_status *sluice_sequence_create(sluice_engine *engine, int32_t *out_sequence) {
  return guarded([&]() -> Status {
    SLUICE_RETURN_IF_ERROR(requireArgument(engine, "engine"));
    SLUICE_RETURN_IF_ERROR(requireArgument(out_sequence, "out_sequence"));
    *out_sequence = -1;
    SLUICE_ASSIGN_OR_RETURN(*out_sequence, engine->engine->createSequence());
    return Status::ok();
  });
}

void sluice_sequence_release(sluice_engine *engine, int32_t sequence) {
  if (engine)
    engine->engine->releaseSequence(sequence);
}

int32_t sluice_sequence_length(const sluice_engine *engine, int32_t sequence) {
  return engine ? engine->engine->sequenceLength(sequence) : -1;
}

sluice_status *sluice_engine_step(sluice_engine *engine, const sluice_step_entry *entries,
                                  size_t num_entries, sluice_step_output *out_outputs) {
  return guarded([&]() -> Status {
    SLUICE_RETURN_IF_ERROR(requireArgument(engine, "engine"));
    SLUICE_RETURN_IF_ERROR(requireArgument(entries, "entries"));
    SLUICE_RETURN_IF_ERROR(requireArgument(out_outputs, "out_outputs"));
    // More entries than sequences cannot be valid, and fewer keep the arrays within their memory.
    if (num_entries > engine->entries.capacity())
      return invalidArgument("the step has " + std::to_string(num_entries) +
                             " entries, but the plan allows " +
                             std::to_string(engine->entries.capacity()) + " sequences");
    const size_t stride = num_entries ? entries[0].struct_size : 0;
    const size_t outStride = num_entries ? out_outputs[0].struct_size : 0;
    auto outputAt = [&](size_t i) {
      return reinterpret_cast<sluice_step_output *>(reinterpret_cast<char *>(out_outputs) +
                                                    i * outStride);
    };
    for (size_t i = 0; i < num_entries; ++i)
      SLUICE_RETURN_IF_ERROR(writeStruct<sluice_step_output>(
          {.struct_size = 0, .logits = nullptr, .num_logit_rows = 0, .sampled_id = -1}, outputAt(i),
          "out_outputs"));
    engine->entries.clear();
    for (size_t i = 0; i < num_entries; ++i) {
      SLUICE_ASSIGN_OR_RETURN(
          sluice_step_entry e,
          readStruct<sluice_step_entry>(reinterpret_cast<const sluice_step_entry *>(
                                            reinterpret_cast<const char *>(entries) + i * stride),
                                        {}, "entries"));
      if (e.num_tokens > 0)
        SLUICE_RETURN_IF_ERROR(requireArgument(e.tokens, "tokens"));
      SLUICE_ASSIGN_OR_RETURN(SamplingOptions sampling, samplingOf(e.sampling));
      engine->entries.push_back({.sequence = e.sequence,
                                 .tokens = {e.tokens, e.num_tokens},
                                 .logitRows = e.logit_rows,
                                 .sample = e.sample != 0,
                                 .sampling = sampling});
    }
    engine->outputs.resize(num_entries);
    SLUICE_RETURN_IF_ERROR(engine->engine->step(engine->entries, engine->outputs));
    for (size_t i = 0; i < num_entries; ++i)
      SLUICE_RETURN_IF_ERROR(writeStruct<sluice_step_output>(
          {.struct_size = 0,
           .logits = engine->outputs[i].logits.data(),
           .num_logit_rows = static_cast<size_t>(engine->entries[i].logitRows),
           .sampled_id = engine->outputs[i].sampledId},
          outputAt(i), "out_outputs"));
    return Status::ok();
  });
}

//===------------------------------------------------------------------------===//
// Tokenizer
//===------------------------------------------------------------------------===//

sluice_status *sluice_tokenizer_load(const sluice_engine *engine,
                                     sluice_tokenizer **out_tokenizer) {
  return guarded([&]() -> Status {
    SLUICE_RETURN_IF_ERROR(requireArgument(out_tokenizer, "out_tokenizer"));
    *out_tokenizer = nullptr;
    SLUICE_RETURN_IF_ERROR(requireArgument(engine, "engine"));
    constexpr char kFile[] = "tokenizer.json";
    SLUICE_ASSIGN_OR_RETURN(std::string json, engine->engine->readArtifactFile(kFile));
    SLUICE_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::fromJson(json, kFile));
    *out_tokenizer = new sluice_tokenizer{std::move(tokenizer)};
    return Status::ok();
  });
}

void sluice_tokenizer_free(sluice_tokenizer *tokenizer) { delete tokenizer; }

sluice_status *sluice_tokenizer_encode(const sluice_tokenizer *tokenizer, const char *text,
                                       size_t text_bytes, int32_t add_special, int32_t *out_ids,
                                       size_t capacity, size_t *out_count) {
  return guarded([&]() -> Status {
    SLUICE_RETURN_IF_ERROR(requireArgument(out_count, "out_count"));
    *out_count = 0;
    SLUICE_RETURN_IF_ERROR(requireArgument(tokenizer, "tokenizer"));
    if (text_bytes > 0)
      SLUICE_RETURN_IF_ERROR(requireArgument(text, "text"));
    if (capacity > 0)
      SLUICE_RETURN_IF_ERROR(requireArgument(out_ids, "out_ids"));
    SLUICE_ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                            tokenizer->tokenizer.encode({text, text_bytes}, add_special != 0));
    return copyOut(ids.data(), ids.size(), out_ids, capacity, out_count);
  });
}

sluice_status *sluice_tokenizer_decode(const sluice_tokenizer *tokenizer, const int32_t *ids,
                                       size_t num_ids, char *out_text, size_t capacity,
                                       size_t *out_bytes) {
  return guarded([&]() -> Status {
    SLUICE_RETURN_IF_ERROR(requireArgument(out_bytes, "out_bytes"));
    *out_bytes = 0;
    SLUICE_RETURN_IF_ERROR(requireArgument(tokenizer, "tokenizer"));
    if (num_ids > 0)
      SLUICE_RETURN_IF_ERROR(requireArgument(ids, "ids"));
    if (capacity > 0)
      SLUICE_RETURN_IF_ERROR(requireArgument(out_text, "out_text"));
    SLUICE_ASSIGN_OR_RETURN(std::string text, tokenizer->tokenizer.decode({ids, num_ids}));
    return copyOut(text.data(), text.size(), out_text, capacity, out_bytes);
  });
}

sluice_status *sluice_decoder_create(const sluice_tokenizer *tokenizer,
                                     sluice_decoder **out_decoder) {
  return guarded([&]() -> Status {
    SLUICE_RETURN_IF_ERROR(requireArgument(out_decoder, "out_decoder"));
    *out_decoder = nullptr;
    SLUICE_RETURN_IF_ERROR(requireArgument(tokenizer, "tokenizer"));
    *out_decoder = new sluice_decoder{StreamDecoder(tokenizer->tokenizer), {}};
    return Status::ok();
  });
}

void sluice_decoder_free(sluice_decoder *decoder) { delete decoder; }

/// Keeps `text` in the decoder and points the caller at it.
static void lend(sluice_decoder *decoder, std::string text, const char **outText,
                 size_t *outBytes) {
  decoder->text = std::move(text);
  *outText = decoder->text.c_str();
  if (outBytes)
    *outBytes = decoder->text.size();
}

static Status prepareLoan(sluice_decoder *decoder, const char **outText, size_t *outBytes) {
  SLUICE_RETURN_IF_ERROR(requireArgument(outText, "out_text"));
  *outText = nullptr;
  if (outBytes)
    *outBytes = 0;
  return requireArgument(decoder, "decoder");
}

sluice_status *sluice_decoder_push(sluice_decoder *decoder, int32_t id, const char **out_text,
                                   size_t *out_bytes) {
  return guarded([&]() -> Status {
    SLUICE_RETURN_IF_ERROR(prepareLoan(decoder, out_text, out_bytes));
    SLUICE_ASSIGN_OR_RETURN(std::string text, decoder->decoder.push(id));
    lend(decoder, std::move(text), out_text, out_bytes);
    return Status::ok();
  });
}

sluice_status *sluice_decoder_flush(sluice_decoder *decoder, const char **out_text,
                                    size_t *out_bytes) {
  return guarded([&]() -> Status {
    SLUICE_RETURN_IF_ERROR(prepareLoan(decoder, out_text, out_bytes));
    lend(decoder, decoder->decoder.flush(), out_text, out_bytes);
    return Status::ok();
  });
}

//===------------------------------------------------------------------------===//
// Generation
//===------------------------------------------------------------------------===//

sluice_status *sluice_generate(sluice_engine *engine, const int32_t *prompt, size_t num_prompt,
                               const sluice_generate_options *options,
                               sluice_generate_result *out_result) {
  return guarded([&]() -> Status {
    if (out_result)
      SLUICE_RETURN_IF_ERROR(writeStruct<sluice_generate_result>({}, out_result, "out_result"));
    SLUICE_RETURN_IF_ERROR(requireArgument(engine, "engine"));
    if (num_prompt > 0)
      SLUICE_RETURN_IF_ERROR(requireArgument(prompt, "prompt"));
    SLUICE_ASSIGN_OR_RETURN(
        sluice_generate_options o,
        readStruct<sluice_generate_options>(options, SLUICE_GENERATE_OPTIONS_INIT, "options"));
    GenerateRequest request;
    request.prompt.assign(prompt, prompt + num_prompt);
    request.maxNewTokens = o.max_new_tokens;
    if (o.stop_ids)
      request.stopIds.assign(o.stop_ids, o.stop_ids + o.num_stop_ids);
    else
      request.stopIds = engine->engine->info().eosTokenIds;
    SLUICE_ASSIGN_OR_RETURN(request.sampling, samplingOf(o.sampling));
    if (o.callback)
      request.onToken = [&o](int32_t token) { return o.callback(token, o.user_data) != 0; };

    Generator generator(*engine->engine);
    SLUICE_ASSIGN_OR_RETURN(RequestId id, generator.submit(std::move(request)));
    SLUICE_RETURN_IF_ERROR(generator.run());
    SLUICE_ASSIGN_OR_RETURN(GenerateResult result, generator.take(id));
    if (!out_result)
      return Status::ok();
    sluice_generate_result out{};
    out.finish_reason = static_cast<int32_t>(result.reason);
    out.num_tokens = static_cast<int32_t>(result.tokens.size());
    out.first_token_seconds = result.firstTokenSeconds;
    out.token_seconds_p50 = generator.tokenLatency().p50();
    out.token_seconds_p90 = generator.tokenLatency().p90();
    out.token_seconds_p99 = generator.tokenLatency().p99();
    return writeStruct(out, out_result, "out_result");
  });
}
