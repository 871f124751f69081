/*===- CApiCalls.c - The C interface used from C ---------------------------------===
 *
 * Part of the Sluice project, under the Apache License 2.0.
 *
 * Compiled as C99 with all warnings: what a C program sees of sluice.h is what is tested. Every
 * function returns NULL when it found what it expected, else the text of the first expectation that
 * failed.
 *
 *===-----------------------------------------------------------------------------===*/
#include "sluice.h"

#include <string.h>

#define TEXT_OF(x) #x
#define LINE_TEXT(line) TEXT_OF(line)
#define EXPECT(condition)                                                                          \
  do {                                                                                             \
    if (!(condition))                                                                              \
      return "CApiCalls.c:" LINE_TEXT(__LINE__) ": " #condition;                                   \
  } while (0)

/* Frees `status` and tells whether it had `code` and a message that contains `part`. */
static int failed(sluice_status *status, sluice_code code, const char *part) {
  int matches =
      sluice_status_code(status) == code && strstr(sluice_status_message(status), part) != NULL;
  sluice_status_free(status);
  return matches;
}

const char *checkErrors(const char *path) {
  sluice_engine *engine = (sluice_engine *)&engine;
  sluice_load_options options = SLUICE_LOAD_OPTIONS_INIT;

  EXPECT(sluice_status_code(NULL) == SLUICE_OK);
  EXPECT(strcmp(sluice_status_message(NULL), "") == 0);
  sluice_status_free(NULL);
  sluice_engine_free(NULL);
  EXPECT(failed(sluice_engine_load("/nonexistent", NULL, &engine), SLUICE_NOT_FOUND,
                "/nonexistent"));
  EXPECT(engine == NULL);
  EXPECT(failed(sluice_engine_load(NULL, NULL, &engine), SLUICE_INVALID_ARGUMENT,
                "path is NULL"));
  EXPECT(failed(sluice_engine_load(path, NULL, NULL), SLUICE_INVALID_ARGUMENT,
                "out_engine is NULL"));
  options.device = "abacus";
  EXPECT(failed(sluice_engine_load(path, &options, &engine), SLUICE_UNSUPPORTED, "\"abacus\""));
  options.device = NULL;
  options.collectives = "abacus";
  EXPECT(failed(sluice_engine_load(path, &options, &engine), SLUICE_INVALID_ARGUMENT,
                "collectives is \"abacus\""));
  options.collectives = NULL;
  options.collective_timeout_seconds = -1;
  EXPECT(failed(sluice_engine_load(path, &options, &engine), SLUICE_INVALID_ARGUMENT,
                "the time-out of collectives is -1.0"));
  options.struct_size = 3;
  EXPECT(failed(sluice_engine_load(path, &options, &engine), SLUICE_INVALID_ARGUMENT,
                "struct_size of options is 3"));
  return NULL;
}

static int32_t countTokens(int32_t token, void *user_data) {
  int32_t *left = (int32_t *)user_data;
  (void)token;
  return --*left > 0;
}

static const char *checkSteps(sluice_engine *engine, const int32_t *tokens, size_t count) {
  sluice_info info = SLUICE_INFO_INIT;
  sluice_step_entry entry = {.struct_size = sizeof entry};
  sluice_step_output output = {.struct_size = sizeof output};
  int32_t sequence = -1, best = 0, i;

  EXPECT(sluice_engine_info(engine, &info) == NULL);
  EXPECT(info.vocab_size == 64 && strcmp(info.name, "tiny") == 0);
  EXPECT(info.num_eos_token_ids == 1 && info.eos_token_ids[0] == 0);
  EXPECT(info.first_rank == 0 && info.num_local_ranks == info.num_ranks);
  EXPECT(info.tp * info.ep == info.num_ranks && info.dp >= 1);
  /* A program built against the first version knows fewer fields. */
  info.struct_size = offsetof(sluice_info, first_rank);
  info.first_rank = info.page_size = 77;
  EXPECT(sluice_engine_info(engine, &info) == NULL);
  EXPECT(info.first_rank == 77 && info.page_size == 4);

  EXPECT(sluice_sequence_create(engine, &sequence) == NULL);
  entry.sequence = sequence;
  entry.tokens = tokens;
  entry.num_tokens = count;
  entry.logit_rows = 1;
  entry.sample = 1;
  EXPECT(sluice_engine_step(engine, &entry, 1, &output) == NULL);
  EXPECT(output.num_logit_rows == 1);
  for (i = 1; i < info.vocab_size; ++i)
    if (output.logits[i] > output.logits[best])
      best = i;
  EXPECT(output.sampled_id == best);
  EXPECT(sluice_sequence_length(engine, sequence) == (int32_t)count);

  entry.tokens = NULL;
  EXPECT(failed(sluice_engine_step(engine, &entry, 1, &output), SLUICE_INVALID_ARGUMENT,
                "tokens is NULL"));
  EXPECT(output.logits == NULL && output.sampled_id == -1);
  EXPECT(failed(sluice_engine_step(engine, &entry, 1000, &output), SLUICE_INVALID_ARGUMENT,
                "the step has 1000 entries"));
  sluice_sequence_release(engine, sequence);
  EXPECT(sluice_sequence_length(engine, sequence) == -1);
  return NULL;
}

static const char *checkGeneration(sluice_engine *engine, const int32_t *tokens, size_t count) {
  sluice_generate_options options = SLUICE_GENERATE_OPTIONS_INIT;
  sluice_generate_result result = SLUICE_GENERATE_RESULT_INIT;
  sluice_sampling sampling = SLUICE_SAMPLING_INIT;
  const int32_t no_stop = -1;
  int32_t left = 100;

  options.max_new_tokens = 5;
  options.stop_ids = &no_stop;
  options.callback = countTokens;
  options.user_data = &left;
  EXPECT(sluice_generate(engine, tokens, count, &options, &result) == NULL);
  EXPECT(result.finish_reason == SLUICE_FINISH_MAX_TOKENS && result.num_tokens == 5);
  EXPECT(left == 95);
  left = 2;
  EXPECT(sluice_generate(engine, tokens, count, &options, &result) == NULL);
  EXPECT(result.finish_reason == SLUICE_FINISH_CANCELLED && result.num_tokens == 2);
  EXPECT(failed(sluice_generate(engine, tokens, 0, &options, &result), SLUICE_INVALID_ARGUMENT,
                "the prompt is empty"));
  EXPECT(result.num_tokens == 0);
  sampling.top_p = 7;
  options.sampling = &sampling;
  EXPECT(failed(sluice_generate(engine, tokens, count, &options, NULL), SLUICE_INVALID_ARGUMENT,
                "top-p is 7"));
  return NULL;
}

static const char *checkTokenizer(const sluice_tokenizer *tokenizer, int32_t *ids, size_t *count) {
  char text[16];
  size_t bytes = 0, length = 0;
  const char *piece = NULL;
  sluice_decoder *decoder = NULL;

  EXPECT(failed(sluice_tokenizer_encode(tokenizer, "cab", 3, 1, ids, 2, count),
                SLUICE_RESOURCE_EXHAUSTED, "the result has 3 elements"));
  EXPECT(*count == 3);
  EXPECT(sluice_tokenizer_encode(tokenizer, "cab", 3, 1, ids, 16, count) == NULL);
  EXPECT(*count == 3 && ids[0] == ids[1] + 2 && ids[2] == ids[1] + 1);
  EXPECT(sluice_tokenizer_decode(tokenizer, ids, *count, text, sizeof text, &bytes) == NULL);
  EXPECT(bytes == 3 && memcmp(text, "cab", 3) == 0);

  EXPECT(sluice_decoder_create(tokenizer, &decoder) == NULL);
  EXPECT(sluice_decoder_push(decoder, ids[0], &piece, &length) == NULL);
  EXPECT(length == 1 && strcmp(piece, "c") == 0);
  EXPECT(failed(sluice_decoder_push(decoder, -4, &piece, NULL), SLUICE_INVALID_ARGUMENT, "-4"));
  EXPECT(piece == NULL);
  EXPECT(sluice_decoder_flush(decoder, &piece, &length) == NULL && length == 0);
  sluice_decoder_free(decoder);
  return NULL;
}

const char *checkUse(const char *path) {
  sluice_engine *engine = NULL;
  sluice_tokenizer *tokenizer = NULL;
  const char *failure;
  int32_t ids[16];
  size_t count = 0;

  EXPECT(sluice_engine_load(path, NULL, &engine) == NULL);
  EXPECT(sluice_tokenizer_load(engine, &tokenizer) == NULL);
  failure = checkTokenizer(tokenizer, ids, &count);
  if (!failure)
    failure = checkSteps(engine, ids, count);
  if (!failure)
    failure = checkGeneration(engine, ids, count);
  sluice_tokenizer_free(tokenizer);
  sluice_engine_free(engine);
  return failure;
}
