from weald.fileobject import (  # noqa: F401
    FileIO,
    FileObjectBase,
    FileObjectBlock,
    FileObjectClosed,
    FileObjectThread,
    FlushingBufferedWriter,
    OpenDescriptor,
    WriteallFileIO,
    WriteallMixin,
    WriteIsWriteallMixin,
    cancel_wait_ex,
)
