import { type ASTNode, serialize } from '@marcbachmann/cel-js'
import { nearest } from '../base/nearest.ts'
import { ANYTHING, describeType, eitherOf, type Kind, mayBe, ofKind, type ValueType } from './value-type.ts'

/** Why an expression fails whatever its variables are. */
export interface CertainFailure {
  message: string
  nearest?: string
}

/** What an expression gives when it gives anything, or that it never does. */
export type Inferred = { ok: true; type: ValueType } | { ok: false; failure: CertainFailure }

/** What each variable may be; what is missing may be anything. */
export type VariableTypes = Readonly<Record<string, ValueType>>

/** Operators with the pairs of kinds that they take: both operands of one kind. */
const TAKES: Record<string, readonly Kind[]> = {
  '+': ['number', 'string', 'list'],
  '-': ['number'],
  '*': ['number'],
  '/': ['number'],
  '%': ['number'],
  '<': ['number', 'string', 'bool'],
  '<=': ['number', 'string', 'bool'],
  '>': ['number', 'string', 'bool'],
  '>=': ['number', 'string', 'bool'],
}
const COMPARES = new Set(['<', '<=', '>', '>='])
/** Methods that only some kinds have. Their arguments may never be looked at, so nothing is said of those. */
const RECEIVERS: Record<string, readonly Kind[]> = {
  map: ['list', 'map'],
  filter: ['list', 'map'],
  all: ['list', 'map'],
  exists: ['list', 'map'],
  exists_one: ['list', 'map'],
  size: ['list', 'map', 'string'],
  startsWith: ['string'],
  endsWith: ['string'],
  contains: ['string'],
  matches: ['string'],
}
/** Receivers that are no values: `cel.bind`, `optional.of`. */
const SPACES = new Set(['cel', 'optional'])

const gives = (type: ValueType): Inferred => ({ ok: true, type })
const fails = (message: string, near: string | null = null): Inferred => ({
  ok: false,
  failure: { message, ...(near === null ? {} : { nearest: near }) },
})

/**
 * What an expression may give, from what its variables may be. Says that it fails only where that is so for every value which they
 * may have: in doubt it gives anything. What may not be looked at (the other side of && and ||, a branch, the body of a macro)
 * makes nothing fail.
 */
export function inferType(node: ASTNode, variables: VariableTypes): Inferred {
  const infer = (inner: ASTNode): Inferred => inferType(inner, variables)
  switch (node.op) {
    case 'value':
      return gives(typeOfLiteral(node.args))
    case 'id':
      return gives(Object.hasOwn(variables, node.args) ? (variables[node.args] ?? ANYTHING) : ANYTHING)
    case '.': {
      const of = infer(node.args[0])
      return of.ok ? memberOf(node.args[0], of.type, node.args[1]) : of
    }
    case '[]':
      return inferIndex(node.args[0], node.args[1], infer)
    case '?:':
      return inferChoice(node.args, infer)
    case '&&':
    case '||': {
      const [left, right] = [infer(node.args[0]), infer(node.args[1])]
      // Either side may make up for a failure of the other.
      return left.ok || right.ok ? gives(ofKind('bool')) : left
    }
    case '==':
    case '!=':
      return firstFailure([infer(node.args[0]), infer(node.args[1])]) ?? gives(ofKind('bool'))
    case 'in':
      return inferUnary(node.args[1], infer, {
        takes: ['list', 'map'],
        says: 'in looks into a list or a map',
        gives: ofKind('bool'),
      })
    case '!_':
      return inferUnary(node.args, infer, { takes: ['bool'], says: '! is for true or false', gives: ofKind('bool') })
    case '-_':
      return inferUnary(node.args, infer, { takes: ['number'], says: '- is for numbers', gives: ofKind('number') })
    case 'list':
      return firstFailure(node.args.map(infer)) ?? gives(ofKind('list'))
    case 'map':
      return firstFailure(node.args.flat().map(infer)) ?? gives(ofKind('map'))
    case 'rcall':
      return inferMethod(node.args, infer)
    case 'call': {
      const [name, [only, ...rest]] = node.args
      if (name === 'has') return gives(ofKind('bool'))
      if (only === undefined || rest.length > 0) return gives(ANYTHING)
      if (name === 'size') return inferUnary(only, infer, { ...SIZE, gives: ofKind('number') })
      const result = CONVERSIONS.get(name)
      return result === undefined ? gives(ANYTHING) : (firstFailure([infer(only)]) ?? gives(ofKind(result)))
    }
    case '+':
    case '-':
    case '*':
    case '/':
    case '%':
    case '<':
    case '<=':
    case '>':
    case '>=':
      return inferBinary(node.op, node.args, infer)
    default:
      return gives(ANYTHING)
  }
}

type Infer = (node: ASTNode) => Inferred

const CONVERSIONS = new Map<string, Kind>([
  ['string', 'string'],
  ['int', 'number'],
  ['double', 'number'],
  ['bool', 'bool'],
])
const SIZE = { takes: ['list', 'map', 'string'] as const, says: 'size is for a list, a map or a string' }

const firstFailure = (all: readonly Inferred[]): Inferred | null => all.find((one) => !one.ok) ?? null

function typeOfLiteral(value: unknown): ValueType {
  if (value === null) return ofKind('null')
  if (typeof value === 'boolean') return ofKind('bool')
  if (typeof value === 'string') return ofKind('string')
  return typeof value === 'bigint' || typeof value === 'number' ? ofKind('number') : ANYTHING
}

/** How a failure names a part of the expression. */
const textOf = (node: ASTNode): string => serialize(node).slice(0, 80)

function memberOf(of: ASTNode, type: ValueType, name: string): Inferred {
  const here = textOf(of)
  if (!mayBe(type, 'map')) return fails(`${here} is ${describeType(type)}, which has no members such as ${name}`)
  const member = type.members.get(name)
  if (member !== undefined) return gives(member)
  if (!type.isClosed) return gives(ANYTHING)
  const known = [...type.members.keys()]
  const shown = known.slice(0, 20).join(', ')
  const near = nearest(name, known)
  const there = known.length === 0 ? 'it has no members' : `it has ${shown}`
  return fails(`${here} has no ${JSON.stringify(name)}; ${there}`, near)
}

function inferIndex(of: ASTNode, index: ASTNode, infer: Infer): Inferred {
  const [list, key] = [infer(of), infer(index)]
  if (!list.ok) return list
  if (!key.ok) return key
  const literal: unknown = index.op === 'value' ? index.args : undefined
  if (typeof literal === 'string') return memberOf(of, list.type, literal)
  if (!mayBe(list.type, 'list', 'map'))
    return fails(`${textOf(of)} is ${describeType(list.type)}, which has no elements`)
  const isList = list.type.kinds !== null && !mayBe(list.type, 'map')
  return gives(isList ? (list.type.items ?? ANYTHING) : ANYTHING)
}

function inferChoice([condition, yes, no]: readonly [ASTNode, ASTNode, ASTNode], infer: Infer): Inferred {
  const asked = infer(condition)
  if (!asked.ok) return asked
  if (!mayBe(asked.type, 'bool'))
    return fails(`the condition ${textOf(condition)} is ${describeType(asked.type)}, not true or false`)
  const [a, b] = [infer(yes), infer(no)]
  if (a.ok && b.ok) return gives(eitherOf(a.type, b.type))
  return b.ok && !a.ok ? b : a
}

function inferUnary(
  operand: ASTNode,
  infer: Infer,
  what: { takes: readonly Kind[]; says: string; gives: ValueType },
): Inferred {
  const given = infer(operand)
  if (!given.ok) return given
  if (mayBe(given.type, ...what.takes)) return gives(what.gives)
  return fails(`${what.says}; ${textOf(operand)} is ${describeType(given.type)}`)
}

function inferBinary(symbol: string, [left, right]: readonly [ASTNode, ASTNode], infer: Infer): Inferred {
  const [a, b] = [infer(left), infer(right)]
  if (!a.ok) return a
  if (!b.ok) return b
  const takes = TAKES[symbol] ?? []
  const both = takes.filter((kind) => mayBe(a.type, kind) && mayBe(b.type, kind))
  if (both.length === 0)
    return fails(
      `${symbol} does not take ${describeType(a.type)} and ${describeType(b.type)}: ${textOf(left)} and ${textOf(right)}`,
    )
  if (COMPARES.has(symbol)) return gives(ofKind('bool'))
  // Beside JSON there are times and bytes, which are added too.
  return a.type.kinds === null || b.type.kinds === null ? gives(ANYTHING) : gives({ ...ANYTHING, kinds: new Set(both) })
}

function inferMethod([name, receiver, args]: readonly [string, ASTNode, ASTNode[]], infer: Infer): Inferred {
  if (receiver.op === 'id' && SPACES.has(receiver.args)) return gives(ANYTHING)
  const takes = Object.hasOwn(RECEIVERS, name) ? RECEIVERS[name] : undefined
  if (takes === undefined) return gives(ANYTHING)
  const result = name === 'size' && args.length === 0 ? ofKind('number') : ANYTHING
  return inferUnary(receiver, infer, { takes, says: `${name} is not for this`, gives: result })
}
