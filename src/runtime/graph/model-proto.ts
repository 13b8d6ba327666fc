/**
 * Writes the bytes of an ONNX ModelProto: the few messages of onnx.proto3 that our graphs use. Field numbers are those
 * of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3 (IR version 10). Large initializers are written as
 * external data, so that the bytes stay small whatever the model's size.
 */
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { type ElementType, elementTypeOf, type TensorValue } from '../tensor.ts';

/** A number is a fixed size; a name is a size known when the graph runs. */
export type Dimension = number | string;
/** Integers, floats, strings, lists of integers and graphs, as NodeProto attributes. */
export type AttributeValue = number | string | { readonly float: number } | readonly number[] | BranchSpec;

/** A graph inside a node: it reads the values of the graph around it by their names. */
export interface BranchSpec {
  readonly name: string;
  readonly nodes: readonly NodeSpec[];
  /** Of a loop's body; a branch has none. */
  readonly inputs: readonly ValueSpec[];
  readonly outputs: readonly ValueSpec[];
}

export interface NodeSpec {
  readonly opType: string;
  readonly domain: string;
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, AttributeValue>>;
}

export interface ValueSpec {
  readonly name: string;
  /** bool: inside graphs only. */
  readonly type: ElementType | 'bool';
  readonly dims: readonly Dimension[];
  /** Whether it is a list of such tensors. Absent: one tensor. */
  readonly isSequence?: boolean;
}

export interface GraphSpec {
  readonly name: string;
  readonly nodes: readonly NodeSpec[];
  readonly initializers: ReadonlyMap<string, TensorValue>;
  readonly inputs: readonly ValueSpec[];
  readonly outputs: readonly ValueSpec[];
}

/** A model ready for a session: its bytes and the buffers that its external initializers name. */
export interface OnnxModel {
  readonly bytes: Uint8Array;
  readonly externalData: readonly { readonly path: string; readonly data: Uint8Array }[];
}

const IR_VERSION = 10;
const OPSETS = { '': 21, 'com.microsoft': 1 } as const;
const ELEMENT_TYPES: Record<ValueSpec['type'], number> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
};
/** Initializers below this many bytes are written into the model itself. */
const INLINE_BYTES = 1024;

function message(writer: BinaryWriter, field: number, write: (inner: BinaryWriter) => void): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  write(writer);
  writer.join();
}

function text(writer: BinaryWriter, field: number, value: string): void {
  writer.tag(field, WireType.LengthDelimited).string(value);
}

function integer(writer: BinaryWriter, field: number, value: number): void {
  writer.tag(field, WireType.Varint).int64(value);
}

function writeAttribute(writer: BinaryWriter, name: string, value: AttributeValue): void {
  text(writer, 1, name);
  if (typeof value === 'string') {
    text(writer, 4, value);
    integer(writer, 20, 3);
  } else if (typeof value === 'number') {
    integer(writer, 3, value);
    integer(writer, 20, 2);
  } else if ('float' in value) {
    writer.tag(2, WireType.Bit32).float(value.float);
    integer(writer, 20, 1);
  } else if ('nodes' in value) {
    message(writer, 6, (branch) => writeBranch(branch, value));
    integer(writer, 20, 5);
  } else {
    for (const element of value) integer(writer, 8, element);
    integer(writer, 20, 7);
  }
}

function writeNode(writer: BinaryWriter, node: NodeSpec): void {
  for (const input of node.inputs) text(writer, 1, input);
  for (const output of node.outputs) text(writer, 2, output);
  text(writer, 3, node.name);
  text(writer, 4, node.opType);
  for (const [name, value] of Object.entries(node.attributes)) {
    message(writer, 5, (inner) => writeAttribute(inner, name, value));
  }
  if (node.domain !== '') text(writer, 7, node.domain);
}

function writeBranch(writer: BinaryWriter, { name, nodes, inputs, outputs }: BranchSpec): void {
  for (const node of nodes) message(writer, 1, (inner) => writeNode(inner, node));
  text(writer, 2, name);
  for (const input of inputs) message(writer, 11, (inner) => writeValue(inner, input));
  for (const output of outputs) message(writer, 12, (inner) => writeValue(inner, output));
}

function writeInitializer(writer: BinaryWriter, name: string, tensor: TensorValue, bytes: Uint8Array): void {
  for (const size of tensor.dims) integer(writer, 1, size);
  integer(writer, 2, ELEMENT_TYPES[elementTypeOf(tensor.data)]);
  text(writer, 8, name);
  if (bytes.length < INLINE_BYTES) {
    writer.tag(9, WireType.LengthDelimited).bytes(bytes);
    return;
  }
  const location: Record<string, string> = { location: name, offset: '0', length: String(bytes.length) };
  for (const [key, value] of Object.entries(location)) {
    message(writer, 13, (entry) => {
      text(entry, 1, key);
      text(entry, 2, value);
    });
  }
  integer(writer, 14, 1);
}

function writeTensorType(writer: BinaryWriter, value: ValueSpec): void {
  message(writer, 1, (tensor) => {
    integer(tensor, 1, ELEMENT_TYPES[value.type]);
    message(tensor, 2, (shape) => {
      for (const size of value.dims) {
        message(shape, 1, (dimension) =>
          typeof size === 'number' ? integer(dimension, 1, size) : text(dimension, 2, size),
        );
      }
    });
  });
}

function writeValue(writer: BinaryWriter, value: ValueSpec): void {
  text(writer, 1, value.name);
  message(writer, 2, (type) => {
    if (value.isSequence !== true) writeTensorType(type, value);
    else message(type, 4, (sequence) => message(sequence, 1, (element) => writeTensorType(element, value)));
  });
}

/** Returns the model of a graph: ONNX opset 21 with ONNX Runtime's own operators. */
export function encodeModel(graph: GraphSpec): OnnxModel {
  const externalData: { path: string; data: Uint8Array }[] = [];
  const writer = new BinaryWriter();
  integer(writer, 1, IR_VERSION);
  message(writer, 7, (body) => {
    for (const node of graph.nodes) message(body, 1, (inner) => writeNode(inner, node));
    text(body, 2, graph.name);
    for (const [name, tensor] of graph.initializers) {
      const { buffer, byteOffset, byteLength } = tensor.data;
      const bytes = new Uint8Array(buffer, byteOffset, byteLength);
      message(body, 5, (inner) => writeInitializer(inner, name, tensor, bytes));
      if (bytes.length >= INLINE_BYTES) externalData.push({ path: name, data: bytes });
    }
    for (const input of graph.inputs) message(body, 11, (inner) => writeValue(inner, input));
    for (const output of graph.outputs) message(body, 12, (inner) => writeValue(inner, output));
  });
  for (const [domain, version] of Object.entries(OPSETS)) {
    message(writer, 8, (opset) => {
      text(opset, 1, domain);
      integer(opset, 2, version);
    });
  }
  return { bytes: writer.finish(), externalData };
}
