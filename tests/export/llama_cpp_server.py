"""Run llama.cpp's server from the package xllamacpp, in an environment of its own.

    python llama_cpp_server.py BASE ADAPTER...

Prints the server's address, then serves until standard input ends. All in float32, cache included.
"""

import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in sys.argv[2:]]
params.lora_init_without_apply = True
params.n_ctx = 1024
params.n_parallel = 2
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
# As the README says: prompts kept there come back with the keys and values of other scales.
params.cache_ram_mib = 0
params.port = 0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
