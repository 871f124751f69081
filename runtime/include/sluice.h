/*===- sluice.h - The C interface of the Sluice runtime ----------------------===
 *
 * Part of the Sluice project, under the Apache License 2.0.
 *
 * For embedding from C and from languages that call C. The rules, everywhere:
 *  - A function that can fail returns a sluice_status pointer: NULL is success, anything else is
 *    freed by the caller with sluice_status_free(). Results come through out_ parameters, which are
 *    set to zero or NULL when the call fails.
 *  - An object made by sluice_X_create or sluice_X_load belongs to the caller until sluice_X_free();
 *    freeing NULL does nothing. Pointers to const inside results belong to the object they came
 *    from.
 *  - Structures begin with struct_size, which the caller sets to sizeof (the _INIT macros do): a
 *    later version may add fields at the end, and old programs keep working.
 *  - Thread-safety is stated per type. Distinct objects may be used by distinct threads.
 * C99 (the _INIT macros also work in C++20), no dependencies.
 *
 *===-------------------------------------------------------------------------===*/
#ifndef SLUICE_H
#define SLUICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The version of the library, "1.2.3". Static storage. */
const char *sluice_version(void);

/*===-------------------------------------------------------------------------===*/
/* Status                                                                         */
/*===-------------------------------------------------------------------------===*/

/** What went wrong. Values never change. */
typedef enum sluice_code {
  SLUICE_OK = 0,
  SLUICE_INTERNAL = 1,           /**< a defect of Sluice itself */
  SLUICE_INVALID_ARGUMENT = 2,   /**< the request is wrong */
  SLUICE_NOT_FOUND = 3,          /**< a file or symbol does not exist */
  SLUICE_DATA_CORRUPT = 4,       /**< bytes do not say what they must */
  SLUICE_UNSUPPORTED = 5,        /**< not something this build can do */
  SLUICE_RESOURCE_EXHAUSTED = 6, /**< does not fit: memory, sequences, pages, a caller's buffer */
  SLUICE_IO = 7,                 /**< the operating system refused to read or write */
  SLUICE_VERSION_MISMATCH = 8,   /**< written by a newer major version */
  SLUICE_DEVICE = 9,             /**< an accelerator or its driver failed */
  SLUICE_ABORTED = 10,           /**< another rank failed or the user interrupted */
  SLUICE_CHECK_FAILED = 11       /**< a verification is outside its tolerance */
} sluice_code;

/** An error. Immutable: any thread may read it. NULL stands for success everywhere. */
typedef struct sluice_status sluice_status;

sluice_code sluice_status_code(const sluice_status *status);
/** What happened, the limit and the remedy; "" for NULL. Valid until the status is freed. */
const char *sluice_status_message(const sluice_status *status);
void sluice_status_free(sluice_status *status);

/*===-------------------------------------------------------------------------===*/
/* Engine                                                                         */
/*===-------------------------------------------------------------------------===*/

/** A loaded artifact. One thread at a time may call functions on one engine. */
typedef struct sluice_engine sluice_engine;

typedef struct sluice_load_options {
  size_t struct_size;
  const char *device; /**< "host"; NULL = "host" */
  int32_t threads;    /**< host threads of this process; 0 = its share of the hardware's */
  int32_t verify;     /**< not 0: check every SHA-256 before use */
  /** How the ranks of a plan reach each other: "local" (threads of this process), "mpi" (one process
   *  per rank, started by mpirun) or "auto": mpi in a process that mpirun started with others.
   *  NULL = "auto". */
  const char *collectives;
  double collective_timeout_seconds; /**< that a rank waits for the others; 0 = 60 */
} sluice_load_options;
#define SLUICE_LOAD_OPTIONS_INIT {sizeof(sluice_load_options), NULL, 0, 1, NULL, 0.0}

/** Loads the artifact directory `path`. `options` may be NULL for the defaults. With one process per
 *  rank, all processes make the same calls with the same arguments; each gets all results, and an
 *  error of one while loading is everybody's. */
sluice_status *sluice_engine_load(const char *path, const sluice_load_options *options,
                                  sluice_engine **out_engine);
void sluice_engine_free(sluice_engine *engine);

/** What the model is and what its plan allows. Pointers are valid as long as the engine. */
typedef struct sluice_info {
  size_t struct_size;
  const char *name, *family, *target;
  int32_t vocab_size, hidden_size, num_layers, num_experts, top_k, num_ranks;
  int32_t max_batch_tokens; /**< tokens of one step */
  int32_t max_seqs;         /**< sequences alive at once */
  int32_t max_seq_len;      /**< tokens of one sequence */
  int32_t max_logit_rows;   /**< rows of logits of one step */
  int32_t page_size;        /**< tokens of one KV page */
  int32_t num_pages;        /**< of each data parallel group */
  int32_t bos_token_id; /**< -1: none */
  const int32_t *eos_token_ids;
  size_t num_eos_token_ids;
  uint64_t weight_bytes, kv_bytes, arena_bytes, io_bytes;
  double load_seconds;
  int32_t first_rank, num_local_ranks; /**< the ranks of this process */
  int32_t tp, ep, dp; /**< ranks per expert group, expert groups, data parallel groups */
} sluice_info;
#define SLUICE_INFO_INIT {.struct_size = sizeof(sluice_info)}

/** Fills the first out_info->struct_size bytes of *out_info. */
sluice_status *sluice_engine_info(const sluice_engine *engine, sluice_info *out_info);

/** Starts an empty sequence. SLUICE_RESOURCE_EXHAUSTED when max_seqs are alive. */
sluice_status *sluice_sequence_create(sluice_engine *engine, int32_t *out_sequence);
/** Frees its KV pages; unknown handles are ignored. */
void sluice_sequence_release(sluice_engine *engine, int32_t sequence);
/** Tokens in its cache, or -1 for an unknown handle. */
int32_t sluice_sequence_length(const sluice_engine *engine, int32_t sequence);

/** How a token is drawn. temperature 0 is greedy. */
typedef struct sluice_sampling {
  size_t struct_size;
  float temperature;
  int32_t top_k; /**< 0 = all */
  float top_p;   /**< 1 = all */
  uint64_t seed;
} sluice_sampling;
#define SLUICE_SAMPLING_INIT {sizeof(sluice_sampling), 0.0f, 0, 1.0f, 0}

/** One sequence's part of a step: its tokens are appended at its end. */
typedef struct sluice_step_entry {
  size_t struct_size;
  int32_t sequence;
  int32_t logit_rows; /**< rows wanted, counted from the last token; 0 = none */
  const int32_t *tokens;
  size_t num_tokens;               /**< at least 1 */
  int32_t sample;                  /**< not 0: draw a token from the last row */
  const sluice_sampling *sampling; /**< NULL = greedy */
} sluice_step_entry;

/** Results of one entry; `logits` belongs to the engine and is valid until its next step. */
typedef struct sluice_step_output {
  size_t struct_size;
  const float *logits; /**< [num_logit_rows, vocab_size], in token order */
  size_t num_logit_rows;
  int32_t sampled_id; /**< -1 when none was drawn */
} sluice_step_output;

/** Runs one batch of `num_entries` entries; out_outputs has as many elements. Within each array all
 *  struct_size are equal. On SLUICE_INVALID_ARGUMENT and SLUICE_RESOURCE_EXHAUSTED no sequence has
 *  changed. A sequence may appear once. SLUICE_ABORTED when another rank failed or did not come: the
 *  engine is broken then. */
sluice_status *sluice_engine_step(sluice_engine *engine, const sluice_step_entry *entries,
                                  size_t num_entries, sluice_step_output *out_outputs);

/*===-------------------------------------------------------------------------===*/
/* Tokenizer                                                                      */
/*===-------------------------------------------------------------------------===*/

/** Immutable: many threads may use one tokenizer. */
typedef struct sluice_tokenizer sluice_tokenizer;

/** The tokenizer of the engine's artifact; SLUICE_NOT_FOUND when it has none. It does not need the
 *  engine afterwards. */
sluice_status *sluice_tokenizer_load(const sluice_engine *engine, sluice_tokenizer **out_tokenizer);
void sluice_tokenizer_free(sluice_tokenizer *tokenizer);

/** Encodes `text_bytes` bytes of UTF-8 and sets *out_count to the number of ids. When that exceeds
 *  `capacity`, nothing is written to out_ids, *out_count is set all the same and the call returns
 *  SLUICE_RESOURCE_EXHAUSTED. A token covers at least one byte, so text_bytes + 8 always suffice for
 *  byte-level vocabularies. `add_special`: not 0 = add what the model's tokenizer puts around texts. */
sluice_status *sluice_tokenizer_encode(const sluice_tokenizer *tokenizer, const char *text,
                                       size_t text_bytes, int32_t add_special, int32_t *out_ids,
                                       size_t capacity, size_t *out_count);

/** Decodes ids to UTF-8 without special tokens, not terminated; *out_bytes and `capacity` as
 *  out_count and capacity of sluice_tokenizer_encode(). */
sluice_status *sluice_tokenizer_decode(const sluice_tokenizer *tokenizer, const int32_t *ids,
                                       size_t num_ids, char *out_text, size_t capacity,
                                       size_t *out_bytes);

/** Decodes tokens one by one without ever splitting a character. One thread at a time. */
typedef struct sluice_decoder sluice_decoder;

sluice_status *sluice_decoder_create(const sluice_tokenizer *tokenizer, sluice_decoder **out_decoder);
void sluice_decoder_free(sluice_decoder *decoder);
/** The text that has become certain with `id`, terminated by a zero that *out_bytes does not count;
 *  often empty. Belongs to the decoder and is valid until its next call. out_bytes may be NULL. */
sluice_status *sluice_decoder_push(sluice_decoder *decoder, int32_t id, const char **out_text,
                                   size_t *out_bytes);
/** The rest, as sluice_decoder_push(); the decoder then starts afresh. */
sluice_status *sluice_decoder_flush(sluice_decoder *decoder, const char **out_text,
                                    size_t *out_bytes);

/*===-------------------------------------------------------------------------===*/
/* Generation                                                                     */
/*===-------------------------------------------------------------------------===*/

/** Why a generation ended. Values never change. */
typedef enum sluice_finish_reason {
  SLUICE_FINISH_NONE = 0,
  SLUICE_FINISH_STOP_TOKEN = 1,
  SLUICE_FINISH_MAX_TOKENS = 2,
  SLUICE_FINISH_CONTEXT_FULL = 3,
  SLUICE_FINISH_CANCELLED = 4
} sluice_finish_reason;

/** Called with every token as it is drawn, a stop token included; 0 ends the generation. Must not
 *  call functions on the same engine. */
typedef int32_t (*sluice_token_callback)(int32_t token, void *user_data);

typedef struct sluice_generate_options {
  size_t struct_size;
  int32_t max_new_tokens;
  const int32_t *stop_ids; /**< NULL = the model's end-of-text tokens */
  size_t num_stop_ids;
  const sluice_sampling *sampling; /**< NULL = greedy */
  sluice_token_callback callback;  /**< may be NULL */
  void *user_data;
} sluice_generate_options;
#define SLUICE_GENERATE_OPTIONS_INIT \
  {sizeof(sluice_generate_options), 16, NULL, 0, NULL, NULL, NULL}

typedef struct sluice_generate_result {
  size_t struct_size;
  int32_t finish_reason; /**< a sluice_finish_reason */
  int32_t num_tokens;    /**< drawn, a stop token included */
  double first_token_seconds;
  double token_seconds_p50, token_seconds_p90, token_seconds_p99; /**< between tokens; 0 if one */
} sluice_generate_result;
#define SLUICE_GENERATE_RESULT_INIT {.struct_size = sizeof(sluice_generate_result)}

/** Generates a continuation of `prompt`, token by token, in a sequence of its own that is released
 *  at the end. `options` and `out_result` may be NULL. */
sluice_status *sluice_generate(sluice_engine *engine, const int32_t *prompt, size_t num_prompt,
                               const sluice_generate_options *options,
                               sluice_generate_result *out_result);

#ifdef __cplusplus
}
#endif

#endif /* SLUICE_H */
