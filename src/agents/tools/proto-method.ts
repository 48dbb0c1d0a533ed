import type { Enum, Field, Type } from 'protobufjs'
import type { Json, JsonObject } from '../../base/json.ts'
import { Failure } from '../../domain/failure.ts'
import { isObject } from '../../domain/placed-problem.ts'

/** One method of a service, as calls need it. */
export interface ProtoMethod {
  /** `/package.Service/Method`. */
  path: string
  /** Throws `tool.invalid_input` for what the message does not take. */
  encode(value: JsonObject): Buffer
  decode(bytes: Buffer): Json
}

const invalid = (message: string): Failure => new Failure('tool.runtime_invalid', message)

/** The method that a manifest names, in the text that it gives. Throws `tool.runtime_invalid`. */
export async function findMethod(grpc: { proto: string; service: string; method: string }): Promise<ProtoMethod> {
  const { default: protobuf } = await import('protobufjs')
  const root = new protobuf.Root()
  try {
    const { imports, weakImports } = protobuf.parse(grpc.proto, root, { keepCase: true })
    for (const name of [...(imports ?? []), ...(weakImports ?? [])]) {
      const known = protobuf.common.get(name)
      if (!known?.nested) throw new Error(`imports ${name}; only common files of google/protobuf are there`)
      root.addJSON(known.nested)
    }
    root.resolveAll()
  } catch (error) {
    throw invalid(`reading grpc.proto: ${error instanceof Error ? error.message : String(error)}`)
  }
  const service = root.lookup(grpc.service, [protobuf.Service])
  if (!(service instanceof protobuf.Service)) throw invalid(`grpc.proto has no service ${grpc.service}`)
  const method = service.methods[grpc.method]
  if (!method) {
    const known = Object.keys(service.methods).join(', ')
    throw invalid(`service ${grpc.service} has no method ${grpc.method}; it has ${known}`)
  }
  if (method.requestStream || method.responseStream)
    throw invalid(`method ${grpc.method} streams; a tool takes one message and gives one`)
  const request = root.lookupType(method.requestType)
  const response = root.lookupType(method.responseType)
  const isEnum = (type: unknown): type is Enum => type instanceof protobuf.Enum
  return {
    path: `/${service.fullName.replace(/^\./, '')}/${method.name}`,
    encode(value) {
      refuseStrays(value, request, 'request', isEnum)
      return Buffer.from(request.encode(request.fromObject(value)).finish())
    },
    decode: (bytes) =>
      response.toObject(response.decode(bytes), {
        longs: String,
        enums: String,
        bytes: String,
        defaults: true,
        json: true,
      }) as Json, // of the forms asked for, which are all JSON
  }
}

/** The library leaves out what it does not know and makes nothing of what does not fit: here both are mistakes. */
function refuseStrays(value: Json, type: Type, path: string, isEnum: (type: unknown) => type is Enum): void {
  if (!isObject(value)) throw mistake(path, `must be a map: ${type.name}`)
  for (const [name, entry] of Object.entries(value)) {
    const field = type.fields[name]
    const at = `${path}.${name}`
    if (!field) throw mistake(at, `is no field of ${type.name}; it has ${Object.keys(type.fields).join(', ')}`)
    if (entry === null) continue
    const entries = field.map
      ? Object.values(isObject(entry) ? entry : refuse(at, 'must be a map'))
      : field.repeated
        ? Array.isArray(entry)
          ? entry
          : refuse(at, 'must be a list')
        : [entry]
    for (const one of entries) checkValue(one, field, at, isEnum)
  }
}

function checkValue(value: Json, field: Field, at: string, isEnum: (type: unknown) => type is Enum): void {
  const { resolvedType } = field
  if (isEnum(resolvedType)) {
    const known = Object.keys(resolvedType.values)
    if (typeof value !== 'number' && !known.includes(String(value))) refuse(at, `must be one of ${known.join(', ')}`)
  } else if (resolvedType) refuseStrays(value, resolvedType, at, isEnum)
  else if (field.type === 'bool' ? typeof value !== 'boolean' : false) refuse(at, 'must be true or false')
  else if (/^(string|bytes)$/.test(field.type)) {
    if (typeof value !== 'string') refuse(at, 'must be a text')
  } else if (field.type !== 'bool' && !isNumber(value, field.type)) refuse(at, `must be a number: ${field.type}`)
}

const isNumber = (value: Json, type: string): boolean => {
  const isText64 = type.includes('64') && typeof value === 'string' && /^-?\d+$/.test(value)
  const isWhole = /^(double|float)$/.test(type) || Number.isSafeInteger(value)
  return isText64 || (typeof value === 'number' && isWhole)
}

const mistake = (at: string, message: string): Failure => new Failure('tool.invalid_input', `${at} ${message}`)

function refuse(at: string, message: string): never {
  throw mistake(at, message)
}
