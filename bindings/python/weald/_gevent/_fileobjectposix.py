from weald.fileobject import (  # noqa: F401
    FileObjectPosix,
    GreenFileDescriptorIO,
    GreenFileDescriptorIOWriteall,
    GreenOpenDescriptor,
)
