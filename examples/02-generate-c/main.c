/*===- main.c - Generate text through the C interface ------------------------===
 *
 * Part of the Sluice project, under the Apache License 2.0.
 *
 * The shortest way from an artifact to text, in C: load it, turn the prompt into tokens, generate,
 * and print every piece of text as soon as it is certain. Other languages call the same functions.
 *
 *===-------------------------------------------------------------------------===*/
#include "sluice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct printer {
  sluice_decoder *decoder;
  sluice_status *status; /* the first error, or NULL */
};

/* Called with every token as it is drawn. Returning 0 ends the generation. */
static int32_t print_token(int32_t token, void *user_data) {
  struct printer *printer = user_data;
  const char *text; /* belongs to the decoder until its next call */
  /* A token may hold half a character: the decoder keeps it until the other half has come. */
  printer->status = sluice_decoder_push(printer->decoder, token, &text, NULL);
  if (printer->status)
    return 0;
  fputs(text, stdout);
  fflush(stdout);
  return 1;
}

/* What can fail returns a status: NULL is success. So each step runs if those before it went well,
 * and everything is freed at the end, whether it was made or not: freeing NULL does nothing. */
static sluice_status *generate(const char *artifact, const char *prompt, int32_t max_new_tokens,
                               int32_t *ids, size_t capacity) {
  sluice_engine *engine = NULL;
  sluice_tokenizer *tokenizer = NULL;
  struct printer printer = {NULL, NULL};
  sluice_generate_options options = SLUICE_GENERATE_OPTIONS_INIT;
  sluice_generate_result result = SLUICE_GENERATE_RESULT_INIT;
  size_t num_ids = 0;
  const char *rest = "";

  /* NULL: the default options. */
  sluice_status *status = sluice_engine_load(artifact, NULL, &engine);
  if (!status)
    status = sluice_tokenizer_load(engine, &tokenizer);
  if (!status)
    status = sluice_decoder_create(tokenizer, &printer.decoder);
  if (!status)
    status = sluice_tokenizer_encode(tokenizer, prompt, strlen(prompt), 1, ids, capacity, &num_ids);

  if (!status) {
    options.max_new_tokens = max_new_tokens;
    options.callback = print_token;
    options.user_data = &printer;
    status = sluice_generate(engine, ids, num_ids, &options, &result);
  }
  if (!status)
    status = printer.status;
  if (!status)
    status = sluice_decoder_flush(printer.decoder, &rest, NULL);

  if (!status) {
    printf("%s\n", rest);
    fprintf(stderr, "%d tokens, the first after %.2f ms", (int)result.num_tokens,
            1e3 * result.first_token_seconds);
    if (result.token_seconds_p50 > 0)
      fprintf(stderr, ", then %.1f tokens/s (median)", 1 / result.token_seconds_p50);
    fprintf(stderr, "\n");
  }

  sluice_decoder_free(printer.decoder);
  sluice_tokenizer_free(tokenizer);
  sluice_engine_free(engine);
  return status;
}

int main(int argc, char **argv) {
  if (argc < 3 || argc > 4) {
    fprintf(stderr, "usage: %s ARTIFACT PROMPT [MAX_NEW_TOKENS]\n", argv[0]);
    return 2;
  }
  /* A token covers at least one byte; a few more are those that the tokenizer puts around texts. */
  size_t capacity = strlen(argv[2]) + 8;
  int32_t *ids = malloc(capacity * sizeof *ids);
  if (!ids) {
    fprintf(stderr, "generate-c: out of memory\n");
    return 1;
  }
  sluice_status *status = generate(argv[1], argv[2], argc == 4 ? atoi(argv[3]) : 64, ids, capacity);
  free(ids);
  if (status) {
    /* The message says what happened, what the limit is and what to do about it. */
    fprintf(stderr, "generate-c: %s\n", sluice_status_message(status));
    sluice_status_free(status);
    return 1;
  }
  return 0;
}
