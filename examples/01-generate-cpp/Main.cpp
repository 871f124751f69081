//===- Main.cpp - Generate text through the C++ interface -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The shortest way from an artifact to text: load it, turn the prompt into tokens, let a Generator
// draw the continuation and print every piece of text as soon as it is certain.
//
//===------------------------------------------------------------------------===//
#include "sluice/engine.h"
#include "sluice/generator.h"
#include "sluice/tokenizer.h"

#include <cstdio>
#include <cstdlib>

using namespace sluice;

// No function of Sluice throws: what can fail returns a Status, or a Result that holds a value or a
// Status. In a function that itself returns a Status the two macros below pass errors on.
static Status generate(const char *artifact, const char *prompt, int maxNewTokens) {
  // Everything is allocated here, for the largest batch and the longest sequences of the plan.
  SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, Engine::load(artifact));

  // The artifact carries the tokenizer of the checkpoint.
  SLUICE_ASSIGN_OR_RETURN(std::string json, engine->readArtifactFile("tokenizer.json"));
  SLUICE_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::fromJson(json, "tokenizer.json"));

  GenerateRequest request;
  SLUICE_ASSIGN_OR_RETURN(request.prompt, tokenizer.encode(prompt));
  request.maxNewTokens = maxNewTokens;
  request.stopIds = engine->info().eosTokenIds;
  // request.sampling is greedy unless a temperature is set.

  // A token may hold half a character: the decoder keeps it until the other half has come.
  StreamDecoder decoder(tokenizer);
  Status decoded;
  request.onToken = [&](int32_t token) {
    Result<std::string> text = decoder.push(token);
    if (!text.isOk()) {
      decoded = text.status();
      return false; // ends this request
    }
    std::fwrite(text->data(), 1, text->size(), stdout);
    std::fflush(stdout);
    return true;
  };

  // A server would submit requests as they arrive and call step() in a loop: all of them advance
  // together. One request needs only run().
  Generator generator(*engine);
  SLUICE_ASSIGN_OR_RETURN(RequestId id, generator.submit(std::move(request)));
  SLUICE_RETURN_IF_ERROR(generator.run());
  SLUICE_RETURN_IF_ERROR(decoded);
  std::printf("%s\n", decoder.flush().c_str());

  SLUICE_ASSIGN_OR_RETURN(GenerateResult result, generator.take(id));
  double seconds = 0; // spent between tokens; the first one comes with the prompt
  for (float interval : result.tokenSeconds)
    seconds += interval;
  std::fprintf(stderr, "%zu tokens, the first after %.2f ms", result.tokens.size(),
               1e3 * result.firstTokenSeconds);
  if (seconds > 0)
    std::fprintf(stderr, ", then %.1f tokens/s", double(result.tokenSeconds.size()) / seconds);
  std::fprintf(stderr, "\n");
  return Status::ok();
}

int main(int argc, char **argv) {
  if (argc < 3 || argc > 4) {
    std::fprintf(stderr, "usage: %s ARTIFACT PROMPT [MAX_NEW_TOKENS]\n", argv[0]);
    return 2;
  }
  Status status = generate(argv[1], argv[2], argc == 4 ? std::atoi(argv[3]) : 64);
  if (!status.isOk()) {
    // The message says what happened, what the limit is and what to do about it.
    std::fprintf(stderr, "generate-cpp: %s\n", status.toString().c_str());
    return 1;
  }
  return 0;
}
