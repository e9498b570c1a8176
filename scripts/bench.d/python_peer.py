#!/usr/bin/env python3
"""What a good engineer would write in an afternoon: the Python program that scripts/bench compares outlierd with.

usage: python_peer.py --brokers B --topic T --group G --alerts T --bundle DIR --processes N --records N --seconds S

One consumer process, or one for each core; orjson; torch without gradients, 1,000 records at a time; a dictionary of exponentially weighted
mean and variance of each series' error; an alert above mean + 6 sd. Offsets are committed by the client in the background,
and nothing else is kept: no state survives a restart, no sensor faults, no smoothing. The model is ONE member of outlierd's
bundle, which runs the mean of all of them. Prints `<seconds> <records so far>` every 50 ms.
"""
import argparse
import json
import math
import multiprocessing
import pathlib
import struct
import time

import confluent_kafka
import orjson
import torch

BATCH, WAIT, SAMPLE_EVERY = 1000, 0.02, 0.05
WEIGHT, DEVIATIONS, MIN_RECORDS = 1 / 400, 6.0, 30


def load_model(bundle):
    """The scaler and the first member's layers, from the bundle's files."""
    raw = (bundle / "weights.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    body = raw[8 + length:]
    layers = {}
    for name, entry in json.loads(raw[8:8 + length]).items():
        if name.startswith("member.0."):
            start, end = entry["data_offsets"]
            weight = torch.frombuffer(bytearray(body[start:end]), dtype=torch.float32).reshape(entry["shape"])
            layers[name.removeprefix("member.0.")] = weight
    scaler = json.loads((bundle / "calibration.json").read_text())["scaler"]
    mean, sd = torch.tensor(scaler["mean"]), torch.tensor(scaler["sd"])
    stack = [(layers[f"{p}.{i}.weight"], layers[f"{p}.{i}.bias"])
             for p in ("encoder", "decoder") for i in range(sum(n.startswith(f"{p}.") for n in layers) // 2)]

    def errors(rows):
        x = z = ((torch.tensor(rows, dtype=torch.float32) - mean) / sd).clamp(-50, 50)
        for number, (weight, bias) in enumerate(stack):
            x = torch.nn.functional.linear(x, weight, bias)
            if number < len(stack) - 1:
                x = torch.tanh(x)
        return (z - x).square().mean(1).sqrt().tolist()

    return errors


def work(args, count, stop):
    torch.set_num_threads(1)
    errors = load_model(args.bundle)
    fields = json.loads((args.bundle / "manifest.json").read_text())["origin"]["fields"]
    names = [field["name"] for field in fields]
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": args.brokers, "group.id": args.group, "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky", "heartbeat.interval.ms": 300, "session.timeout.ms": 10000,
        **dict(pair.split("=", 1) for pair in args.property)})
    producer = confluent_kafka.Producer({"bootstrap.servers": args.brokers, "linger.ms": 5})
    consumer.subscribe([args.topic])
    series = {}
    with torch.inference_mode():
        while not stop.is_set():
            messages = consumer.consume(BATCH, WAIT)
            if not messages:
                continue
            records = [orjson.loads(message.value()) for message in messages]
            scores = errors([[record[name] for name in names] for record in records])
            for record, score in zip(records, scores):
                key = record["series"]
                n, mean, variance = series.get(key, (0, score, 0.0))
                off = score - mean
                if n > MIN_RECORDS and off > DEVIATIONS * math.sqrt(variance):
                    alert = {"series": key, "time": record["ts"], "score": score, "mean": mean, "sd": math.sqrt(variance)}
                    producer.produce(args.alerts, orjson.dumps(alert), key)
                    continue
                weight = max(WEIGHT, 1 / (n + 1))
                series[key] = (n + 1, mean + weight * off, (1 - weight) * (variance + weight * off * off))
            producer.poll(0)
            with count.get_lock():
                count.value += len(messages)
    consumer.close()
    producer.flush(10)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("brokers", "topic", "group", "alerts"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--bundle", type=pathlib.Path, required=True)
    parser.add_argument("--property", action="append", default=[], help="of librdkafka's consumer, NAME=VALUE")
    for name in ("processes", "records", "seconds"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    count, stop = multiprocessing.Value("q", 0), multiprocessing.Event()
    workers = [multiprocessing.Process(target=work, args=(args, count, stop), daemon=True) for _ in range(args.processes)]
    for worker in workers:
        worker.start()
    began = time.monotonic()
    while count.value < args.records and time.monotonic() - began < args.seconds and all(w.is_alive() for w in workers):
        print(f"{time.monotonic() - began:.3f} {count.value}", flush=True)
        time.sleep(SAMPLE_EVERY)
    failed = any(not w.is_alive() for w in workers)
    stop.set()
    for worker in workers:
        worker.join()
    if failed:
        raise SystemExit("a process of the peer ended early")


if __name__ == "__main__":
    main()
