// REQUIRES: sluice-compile
// The `input` phase of the reference checkpoint: every weight by name, and one layer in full.
// RUN: sluice-compile %sluice_src/test/data/golden/mixtral --compile-to=input \
// RUN:   --max-batch-tokens=32 --max-seq-len=100 --kv-dtype=bf16 | FileCheck %s

// CHECK: module attributes {moe.limits = {max_batch_tokens = 32 : i64, max_logit_rows = 32 : i64, max_seq_len = 100 : i64, max_seqs = 16 : i64, num_pages = 112 : i64, page_size = 16 : i64}
// CHECK-SAME: moe.model = {active_parameters = 116032 : i64, bos_token_id = 0 : i64, eos_token_ids = array<i64: 0>, family = "mixtral", hidden_size = 64 : i64, max_position = 512 : i64, name = "mixtral", num_experts = 8 : i64, num_layers = 2 : i64, top_k = 2 : i64, total_parameters = 337216 : i64, vocab_size = 128 : i64}
// CHECK-SAME: moe.phase = "input", moe.target = "host"

// CHECK:      moe.weight @embed : tensor<128x64xbf16> = #moe.source<"model.embed_tokens.weight" in "model.safetensors" : tensor<128x64xbf16>>
// CHECK:      moe.weight @layers.1.input_norm : tensor<64xbf16>
// CHECK-NEXT: moe.weight @layers.1.attn.q : tensor<64x64xbf16>
// CHECK-NEXT: moe.weight @layers.1.attn.k : tensor<32x64xbf16>
// CHECK-NEXT: moe.weight @layers.1.attn.v : tensor<32x64xbf16>
// CHECK-NEXT: moe.weight @layers.1.attn.o : tensor<64x64xbf16>
// CHECK-NEXT: moe.kv_cache @layers.1.kv heads 2 key 16 value 16 : bf16
// CHECK-NEXT: moe.weight @layers.1.post_norm : tensor<64xbf16>
// CHECK-NEXT: moe.weight @layers.1.router : tensor<8x64xbf16> = #moe.source<"model.layers.1.block_sparse_moe.gate.weight"
// CHECK-NEXT: moe.weight @layers.1.experts.gate : tensor<8x96x64xbf16> = #moe.stack<"model.layers.1.block_sparse_moe.experts.{}.w1.weight" x 8 in ["model.safetensors"]
// CHECK-NEXT: moe.weight @layers.1.experts.up : tensor<8x96x64xbf16> = #moe.stack<"model.layers.1.block_sparse_moe.experts.{}.w3.weight"
// CHECK-NEXT: moe.weight @layers.1.experts.down : tensor<8x64x96xbf16> = #moe.stack<"model.layers.1.block_sparse_moe.experts.{}.w2.weight"
// CHECK-NEXT: moe.weight @norm : tensor<64xbf16>
// CHECK-NEXT: moe.weight @head : tensor<128x64xbf16> = #moe.source<"lm_head.weight"

// CHECK:      func.func @step(%[[IDS:.+]]: tensor<?xi32>, %[[BATCH:.+]]: !moe.batch) -> (tensor<?x128xf32>, tensor<?xi32>)
// CHECK-NEXT:   %[[X0:.+]] = moe.embedding %[[IDS]] table @embed
// CHECK-NEXT:   %[[N0:.+]] = moe.norm rms %[[X0]] weight @layers.0.input_norm eps 1.0e-05
// CHECK-NEXT:   %[[Q:.+]] = moe.linear %[[N0]] weight @layers.0.attn.q
// CHECK-NEXT:   %[[QR:.+]] = moe.rope %[[Q]] at %[[BATCH]] heads 4 rope <dim = 16, base = 1.0e+06>
// CHECK-NEXT:   %[[K:.+]] = moe.linear %[[N0]] weight @layers.0.attn.k
// CHECK-NEXT:   %[[KR:.+]] = moe.rope %[[K]] at %[[BATCH]] heads 2 rope <dim = 16, base = 1.0e+06>
// CHECK-NEXT:   %[[V:.+]] = moe.linear %[[N0]] weight @layers.0.attn.v
// CHECK-NEXT:   moe.cache_append %[[KR]], %[[V]] to @layers.0.kv at %[[BATCH]]
// CHECK-NEXT:   %[[A:.+]] = moe.attention %[[QR]] cache @layers.0.kv at %[[BATCH]] heads 4 scale
// CHECK-NEXT:   %[[O:.+]] = moe.linear %[[A]] weight @layers.0.attn.o
// CHECK-NEXT:   %[[X1:.+]] = moe.residual %[[X0]], %[[O]]
// CHECK-NEXT:   %[[N1:.+]] = moe.norm rms %[[X1]] weight @layers.0.post_norm eps 1.0e-05
// CHECK-NEXT:   %[[L:.+]] = moe.linear %[[N1]] weight @layers.0.router
// CHECK-NEXT:   %[[E:.+]], %[[W:.+]] = moe.route %[[L]] routing <softmax, top_k = 2, renormalize>
// CHECK-NEXT:   %[[M:.+]] = moe.experts %[[N1]], %[[E]], %[[W]] gate @layers.0.experts.gate up @layers.0.experts.up down @layers.0.experts.down activation <silu>
// CHECK-NEXT:   %[[X2:.+]] = moe.residual %[[X1]], %[[M]]
// CHECK:        %[[LAST:.+]] = moe.select_rows %{{.+}} of %[[BATCH]]
// CHECK-NEXT:   %[[NL:.+]] = moe.norm rms %[[LAST]] weight @norm eps 1.0e-05
// CHECK-NEXT:   %[[LOGITS:.+]] = moe.linear %[[NL]] weight @head
// CHECK-NEXT:   %[[NEXT:.+]] = moe.sample %[[LOGITS]] by %[[BATCH]]
// CHECK-NEXT:   return %[[LOGITS]], %[[NEXT]]
