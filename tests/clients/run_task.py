"""Runs a task by gRPC, with nothing of tq but its address: the broker says by reflection what it understands.

    pip install -r requirements.txt
    python run_task.py 127.0.0.1:7171 word_count.wasm word-count "one two two"
"""

import hashlib
import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

CHUNK_BYTES = 256 * 1024


class Broker:
    """Calls of `tq.v1`, by their names."""

    def __init__(self, address, key=None):
        self.channel = grpc.insecure_channel(address)
        self.pool = DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))
        # With access control each call shows a key. Over a network that takes grpc.secure_channel.
        self.metadata = [("authorization", f"Bearer {key}")] if key else []

    def message(self, name, /, **fields):
        descriptor = self.pool.FindMessageTypeByName(f"tq.v1.{name}")
        return GetMessageClass(descriptor)(**fields)

    def call(self, service, method, request):
        """One message or, if `request` is an iterator, many; the answer is one, or an iterator of many."""
        descriptor = self.pool.FindServiceByName(f"tq.v1.{service}").methods_by_name[method]
        sends = "stream" if descriptor.client_streaming else "unary"
        reads = "stream" if descriptor.server_streaming else "unary"
        call = getattr(self.channel, f"{sends}_{reads}")(
            f"/tq.v1.{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(descriptor.output_type).FromString,
        )
        return call(request, metadata=self.metadata)

    def upload(self, name, component):
        def parts():
            digest = hashlib.sha256(component).digest()
            header = self.message("UploadHeader", name=name, size_bytes=len(component), digest=digest)
            yield self.message("UploadModuleRequest", header=header)
            for at in range(0, len(component), CHUNK_BYTES):
                yield self.message("UploadModuleRequest", chunk=component[at : at + CHUNK_BYTES])

        return self.call("ModuleService", "UploadModule", parts()).module


def main(address, path, function, payload):
    broker = Broker(address)
    with open(path, "rb") as file:
        module = broker.upload(function.split("/")[0], file.read())
    print(f"{module.name}@{module.version}")

    task = broker.message("NewTask", function=function, payload=payload.encode())
    submit = broker.message("SubmitRequest", tasks=[task])
    [submitted] = broker.call("TaskService", "Submit", submit).tasks

    watch = broker.message("WatchTasksRequest", ids=[submitted.id], include_result=True)
    for told in broker.call("TaskService", "WatchTasks", watch):
        for ended in told.ended:
            state = ended.DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number[ended.state]
            print(state.name)
            print(ended.result.decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
