// Activations are rounded once for all fp8 products of an input, and only for those.
//
// RUN: sluice-opt --sluice-lower-moe-to-plan %s | FileCheck %s

module attributes {
  moe.model = {name = "tiny", family = "mixtral", vocab_size = 64 : i64, hidden_size = 32 : i64,
               num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64,
               eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64,
               total_parameters = 1000 : i64, active_parameters = 500 : i64},
  moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64,
                max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64},
  moe.target = "host", moe.activations = "f8e4m3:group128", plan.buckets = array<i64: 8>
} {

moe.weight @embed : tensor<64x32xbf16> = #moe.source<"e" in "f" : tensor<64x32xbf16>>
moe.weight @a : tensor<32x32xf32> = #moe.quantize<#moe.source<"a" in "f" : tensor<32x32xbf16>> to "f8e4m3:block128x128">
moe.weight @b : tensor<32x32xf32> = #moe.quantize<#moe.source<"b" in "f" : tensor<32x32xbf16>> to "f8e4m3:channel">
moe.weight @c : tensor<32x32xf32> = #moe.quantize<#moe.source<"c" in "f" : tensor<32x32xbf16>> to "i8:channel">
moe.weight @ffn.gate_up : tensor<2x32x32xf32> = #moe.quantize<#moe.source<"gu" in "f" : tensor<2x32x32xbf16>> to "f8e4m3:channel">
moe.weight @ffn.down : tensor<32x32xf32> = #moe.quantize<#moe.source<"d" in "f" : tensor<32x32xbf16>> to "f8e4m3:channel">

// CHECK: plan.kernel @round_rows_0 = "round_rows"(width = 32, format = "f8e4m3:group128", rows = "tokens")
// CHECK-NOT: "round_rows"(
// CHECK: plan.async
// CHECK: @round_rows_0
// CHECK-NOT: @round_rows
// CHECK: @sample
func.func @rank0(%ids: tensor<?xi32>, %batch: !moe.batch) -> (tensor<?x64xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %x = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x32xf32>
  %a = moe.linear %x weight @a : tensor<?x32xf32> -> tensor<?x32xf32>
  %b = moe.linear %x weight @b : tensor<?x32xf32> -> tensor<?x32xf32>
  %c = moe.linear %a weight @c : tensor<?x32xf32> -> tensor<?x32xf32>
  %r = moe.residual %b, %c : tensor<?x32xf32>
  %g = moe.ffn_gate_up %r weight @ffn.gate_up activation <silu> : tensor<?x32xf32> -> tensor<?x32xf32>
  %d = moe.linear %g weight @ffn.down : tensor<?x32xf32> -> tensor<?x32xf32>
  %s = moe.select_rows %d of %batch : tensor<?x32xf32> -> tensor<?x32xf32>
  %l = moe.linear %s weight @embed : tensor<?x32xf32> -> tensor<?x64xf32>
  %t = moe.sample %l by %batch : tensor<?x64xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x64xf32>, tensor<?xi32>
}
}
