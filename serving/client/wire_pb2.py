"""Messages of wire.proto. Written by generate.py: edit wire.proto and run that again."""

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper

_POOL = descriptor_pool.DescriptorPool()  # a pool of our own: no clash with the official messages
_POOL.AddSerializedFile(
    b'\n\nwire.proto\x12\x13serving_client.wire"\x83\x01\n\x0bTensorShape\x126\n\x03dim\x18\x02 \x03(\x0b2$.serving'
    b'_client.wire.TensorShape.DimR\x03dim\x12!\n\x0cunknown_rank\x18\x03 \x01(\x08R\x0bunknownRank\x1a\x19\n\x03'
    b'Dim\x12\x12\n\x04size\x18\x01 \x01(\x03R\x04size"\xf4\x03\n\x06Tensor\x123\n\x05dtype\x18\x01 \x01(\x0e2\x1d.serving_client.wire.'
    b'DataTypeR\x05dtype\x12C\n\x0ctensor_shape\x18\x02 \x01(\x0b2 .serving_client.wire.TensorShapeR'
    b'\x0btensorShape\x12%\n\x0etensor_content\x18\x04 \x01(\x0cR\rtensorContent\x12\x1b\n\tfloat_val\x18\x05 \x03(\x02R\x08'
    b'floatVal\x12\x1d\n\ndouble_val\x18\x06 \x03(\x01R\tdoubleVal\x12\x17\n\x07int_val\x18\x07 \x03(\x05R\x06intVal\x12\x1d\n\nstri'
    b'ng_val\x18\x08 \x03(\x0cR\tstringVal\x12!\n\x0cscomplex_val\x18\t \x03(\x02R\x0bscomplexVal\x12\x1b\n\tint64_val\x18'
    b'\n \x03(\x03R\x08int64Val\x12\x19\n\x08bool_val\x18\x0b \x03(\x08R\x07boolVal\x12!\n\x0cdcomplex_val\x18\x0c \x03(\x01R\x0bdcompl'
    b'exVal\x12\x19\n\x08half_val\x18\r \x03(\x05R\x07halfVal\x12\x1d\n\nuint32_val\x18\x10 \x03(\rR\tuint32Val\x12\x1d\n\nuint6'
    b'4_val\x18\x11 \x03(\x04R\tuint64Val""\n\nInt64Value\x12\x14\n\x05value\x18\x01 \x01(\x03R\x05value"6\n\x03Any\x12\x19\n\x08typ'
    b'e_url\x18\x01 \x01(\tR\x07typeUrl\x12\x14\n\x05value\x18\x02 \x01(\x0cR\x05value"\xbc\x01\n\tModelSpec\x12\x12\n\x04name\x18\x01 \x01(\tR\x04'
    b'name\x12;\n\x07version\x18\x02 \x01(\x0b2\x1f.serving_client.wire.Int64ValueH\x00R\x07version\x12%\n\rver'
    b'sion_label\x18\x04 \x01(\tH\x00R\x0cversionLabel\x12%\n\x0esignature_name\x18\x03 \x01(\tR\rsignatureNameB'
    b'\x10\n\x0eversion_choice"\x95\x02\n\x0ePredictRequest\x12=\n\nmodel_spec\x18\x01 \x01(\x0b2\x1e.serving_clien'
    b't.wire.ModelSpecR\tmodelSpec\x12G\n\x06inputs\x18\x02 \x03(\x0b2/.serving_client.wire.Predic'
    b'tRequest.InputsEntryR\x06inputs\x12#\n\routput_filter\x18\x03 \x03(\tR\x0coutputFilter\x1aV\n\x0bInp'
    b'utsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x121\n\x05value\x18\x02 \x01(\x0b2\x1b.serving_client.wire.TensorR\x05'
    b'value:\x028\x01"\xf6\x01\n\x0fPredictResponse\x12K\n\x07outputs\x18\x01 \x03(\x0b21.serving_client.wire.Pre'
    b'dictResponse.OutputsEntryR\x07outputs\x12=\n\nmodel_spec\x18\x02 \x01(\x0b2\x1e.serving_client.'
    b'wire.ModelSpecR\tmodelSpec\x1aW\n\x0cOutputsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x121\n\x05value\x18\x02 \x01'
    b'(\x0b2\x1b.serving_client.wire.TensorR\x05value:\x028\x01"\x7f\n\x17GetModelMetadataRequest\x12=\n'
    b'\nmodel_spec\x18\x01 \x01(\x0b2\x1e.serving_client.wire.ModelSpecR\tmodelSpec\x12%\n\x0emetadata'
    b'_field\x18\x02 \x03(\tR\rmetadataField"\x89\x02\n\x18GetModelMetadataResponse\x12=\n\nmodel_spec\x18\x01'
    b' \x01(\x0b2\x1e.serving_client.wire.ModelSpecR\tmodelSpec\x12W\n\x08metadata\x18\x02 \x03(\x0b2;.serv'
    b'ing_client.wire.GetModelMetadataResponse.MetadataEntryR\x08metadata\x1aU\n\rMeta'
    b'dataEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12.\n\x05value\x18\x02 \x01(\x0b2\x18.serving_client.wire.AnyR\x05va'
    b'lue:\x028\x01"\x9a\x01\n\nTensorInfo\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x123\n\x05dtype\x18\x02 \x01(\x0e2\x1d.serving_clie'
    b'nt.wire.DataTypeR\x05dtype\x12C\n\x0ctensor_shape\x18\x03 \x01(\x0b2 .serving_client.wire.Tens'
    b'orShapeR\x0btensorShape"\xa0\x04\n\x0cSignatureDef\x12E\n\x06inputs\x18\x01 \x03(\x0b2-.serving_client.w'
    b'ire.SignatureDef.InputsEntryR\x06inputs\x12H\n\x07outputs\x18\x02 \x03(\x0b2..serving_client.w'
    b'ire.SignatureDef.OutputsEntryR\x07outputs\x12\x1f\n\x0bmethod_name\x18\x03 \x01(\tR\nmethodName\x12'
    b'K\n\x08defaults\x18\x04 \x03(\x0b2/.serving_client.wire.SignatureDef.DefaultsEntryR\x08defa'
    b'ults\x1aZ\n\x0bInputsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x125\n\x05value\x18\x02 \x01(\x0b2\x1f.serving_client.wi'
    b're.TensorInfoR\x05value:\x028\x01\x1a[\n\x0cOutputsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x125\n\x05value\x18\x02 \x01('
    b'\x0b2\x1f.serving_client.wire.TensorInfoR\x05value:\x028\x01\x1aX\n\rDefaultsEntry\x12\x10\n\x03key\x18\x01 '
    b'\x01(\tR\x03key\x121\n\x05value\x18\x02 \x01(\x0b2\x1b.serving_client.wire.TensorR\x05value:\x028\x01"\xd2\x01\n\x0fSign'
    b'atureDefMap\x12[\n\rsignature_def\x18\x01 \x03(\x0b26.serving_client.wire.SignatureDefMap'
    b'.SignatureDefEntryR\x0csignatureDef\x1ab\n\x11SignatureDefEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12'
    b'7\n\x05value\x18\x02 \x01(\x0b2!.serving_client.wire.SignatureDefR\x05value:\x028\x01"V\n\x15GetModel'
    b'StatusRequest\x12=\n\nmodel_spec\x18\x01 \x01(\x0b2\x1e.serving_client.wire.ModelSpecR\tmodel'
    b'Spec"L\n\x06Status\x12\x1d\n\nerror_code\x18\x01 \x01(\x05R\terrorCode\x12#\n\rerror_message\x18\x02 \x01(\tR\x0cer'
    b'rorMessage"\xfd\x01\n\x12ModelVersionStatus\x12\x18\n\x07version\x18\x01 \x01(\x03R\x07version\x12C\n\x05state\x18\x02 \x01'
    b'(\x0e2-.serving_client.wire.ModelVersionStatus.StateR\x05state\x123\n\x06status\x18\x03 \x01(\x0b'
    b'2\x1b.serving_client.wire.StatusR\x06status"S\n\x05State\x12\x0b\n\x07UNKNOWN\x10\x00\x12\t\n\x05START\x10\n\x12\x0b'
    b'\n\x07LOADING\x10\x14\x12\r\n\tAVAILABLE\x10\x1e\x12\r\n\tUNLOADING\x10(\x12\x07\n\x03END\x102"s\n\x16GetModelStatusResp'
    b"onse\x12Y\n\x14model_version_status\x18\x01 \x03(\x0b2'.serving_client.wire.ModelVersionSta"
    b'tusR\x12modelVersionStatus*\x88\x02\n\x08DataType\x12\x0e\n\nDT_INVALID\x10\x00\x12\x0c\n\x08DT_FLOAT\x10\x01\x12\r\n\tDT'
    b'_DOUBLE\x10\x02\x12\x0c\n\x08DT_INT32\x10\x03\x12\x0c\n\x08DT_UINT8\x10\x04\x12\x0c\n\x08DT_INT16\x10\x05\x12\x0b\n\x07DT_INT8\x10\x06\x12\r\n\tDT_S'
    b'TRING\x10\x07\x12\x10\n\x0cDT_COMPLEX64\x10\x08\x12\x0c\n\x08DT_INT64\x10\t\x12\x0b\n\x07DT_BOOL\x10\n\x12\x0f\n\x0bDT_BFLOAT16\x10\x0e\x12\r\n'
    b'\tDT_UINT16\x10\x11\x12\x11\n\rDT_COMPLEX128\x10\x12\x12\x0b\n\x07DT_HALF\x10\x13\x12\r\n\tDT_UINT32\x10\x16\x12\r\n\tDT_UINT64'
    b'\x10\x17b\x06proto3'
)
DESCRIPTOR = _POOL.FindFileByName("wire.proto")

TensorShape = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["TensorShape"])
Tensor = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["Tensor"])
Int64Value = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["Int64Value"])
Any = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["Any"])
ModelSpec = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["ModelSpec"])
PredictRequest = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["PredictRequest"])
PredictResponse = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["PredictResponse"])
GetModelMetadataRequest = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["GetModelMetadataRequest"])
GetModelMetadataResponse = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["GetModelMetadataResponse"])
TensorInfo = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["TensorInfo"])
SignatureDef = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["SignatureDef"])
SignatureDefMap = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["SignatureDefMap"])
GetModelStatusRequest = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["GetModelStatusRequest"])
Status = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["Status"])
ModelVersionStatus = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["ModelVersionStatus"])
GetModelStatusResponse = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["GetModelStatusResponse"])

DataType = enum_type_wrapper.EnumTypeWrapper(DESCRIPTOR.enum_types_by_name["DataType"])
globals().update(DataType.items())
