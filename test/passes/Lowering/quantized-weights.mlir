// Weights of products keep their codes; tables, and what cannot keep them, are stored as numbers.
//
// RUN: sluice-opt --sluice-lower-moe-to-plan %s -verify-diagnostics | FileCheck %s

module attributes {
  moe.model = {name = "tiny", family = "mixtral", vocab_size = 64 : i64, hidden_size = 32 : i64,
               num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64,
               eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64,
               total_parameters = 1000 : i64, active_parameters = 500 : i64},
  moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64,
                max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64},
  moe.target = "host", plan.buckets = array<i64: 8>
} {

// expected-remark @below {{quantised weight @embed is stored as 8192 bytes of f32 in layout row_major: it cannot keep its codes there}}
moe.weight @embed : tensor<64x32xf32> = #moe.dequantize<#moe.source<"e" in "f" : tensor<64x32xi8>>
  by #moe.source<"es" in "f" : tensor<64x1xf32>> group = 32>
moe.weight @groups : tensor<32x32xf32> = #moe.dequantize<
  #moe.unpack<#moe.source<"g" in "f" : tensor<32x4xi32>> to i4, size = 32>
  by #moe.source<"gs" in "f" : tensor<32x2xf32>> group = 16, origin = 8>
// expected-remark @below {{quantised weight @mixed is stored as 4096 bytes of f32 in layout panel16}}
moe.weight @mixed : tensor<32x32xf32> = #moe.concat<axis = 0, [
  #moe.dequantize<#moe.source<"m" in "f" : tensor<16x32xi8>> by #moe.source<"ms" in "f" : tensor<16x1xf32>> group = 32>,
  #moe.source<"n" in "f" : tensor<16x32xf32>>]>

// CHECK: plan.kernel @embedding_0 = "embedding"({{.*}}format = "f32"
// CHECK: plan.kernel @linear_0 = "linear"({{.*}}format = "i4:group16"
// CHECK: plan.kernel @linear_1 = "linear"({{.*}}format = "f32"
// CHECK: plan.kernel @linear_2 = "linear"({{.*}}format = "i8:channel"
// CHECK: plan.weight @embed from @embed layout "row_major" format "f32" bytes 8192
// CHECK: plan.weight @groups from @groups layout "panel16" format "i4:group16"
// CHECK: plan.weight @mixed from @mixed layout "panel16" format "f32" bytes 4096
// The table's second form, as a head, is a product and keeps its codes.
// CHECK: plan.weight @embed.panel16 from @embed layout "panel16" format "i8:channel"
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x64xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %x = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x32xf32>
  %y = moe.linear %x weight @groups : tensor<?x32xf32> -> tensor<?x32xf32>
  %z = moe.linear %y weight @mixed : tensor<?x32xf32> -> tensor<?x32xf32>
  %s = moe.select_rows %z of %b : tensor<?x32xf32> -> tensor<?x32xf32>
  %l = moe.linear %s weight @embed : tensor<?x32xf32> -> tensor<?x64xf32>
  %t = moe.sample %l by %b : tensor<?x64xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x64xf32>, tensor<?xi32>
}
}
