"""What a gate costs on this machine: latency by step, throughput, start-up, memory; and what the machine can do.

images      the pictures: the user's own, or drawn ones
measure     rounds in which all cases take their turn
cold        fresh processes, from import to the first verdict
operations  what the graph has to compute and to move
ceiling     how fast the machine computes and moves, measured in the same rounds
result      all of that as one value, and as JSON
figures     what follows from it
compare     one result against another
report      card and tables as text; plot draws them
readings    what a machine tells of heat, clocks and power, and the energy of an image; for benchmarks/on_device.py
            and others beside it: kernel_sensors asks Linux, gpu_sensors NVIDIA's library
"""
