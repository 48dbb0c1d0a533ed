import { compilePattern, type LinearPattern } from './linear-pattern.ts'

/** What is known of by its name: a pattern, and what else a find has to be. */
interface DataKind {
  pattern: string
  ignoreCase: boolean
  isReal(text: string): boolean
  /** For the docs. */
  meaning: string
}

const always = (): boolean => true
const digitsOf = (text: string): number[] => [...text.replace(/\D/g, '')].map(Number)

/** The checksum that numbers of cards have. */
function hasLuhn(text: string): boolean {
  const digits = digitsOf(text).toReversed()
  const sum = digits.reduce((all, digit, i) => all + (i % 2 === 0 ? digit : digit > 4 ? digit * 2 - 9 : digit * 2), 0)
  return digits.length >= 13 && digits.length <= 19 && sum % 10 === 0
}

/** The checksum of ISO 13616. */
function isIban(text: string): boolean {
  const plain = text.replace(/ /g, '').toUpperCase()
  if (plain.length < 15 || plain.length > 34) return false
  let rest = 0
  for (const char of plain.slice(4) + plain.slice(0, 4)) {
    const value = parseInt(char, 36)
    rest = (rest * (value > 9 ? 100 : 10) + value) % 97
  }
  return rest === 1
}

const isIpv4 = (text: string): boolean => text.split('.').every((part) => Number(part) <= 255)

/** Groups that were never given out. */
const isSsn = (text: string): boolean => !/^(?:000|666|9)|-00-|-0000$/.test(text)

export const DATA_KINDS = {
  email: {
    pattern: '\\b[a-z0-9._%+-]{1,64}@[a-z0-9-]{1,63}(?:\\.[a-z0-9-]{1,63}){1,8}\\b',
    ignoreCase: true,
    isReal: always,
    meaning: 'addresses of e-mail',
  },
  phone: {
    pattern: '(?:\\+|\\b00)[1-9]\\d{0,3}(?:[ ./-]?\\(?\\d{1,5}\\)?){2,6}\\b',
    ignoreCase: false,
    isReal: (text) => digitsOf(text).length >= 8 && digitsOf(text).length <= 17,
    meaning: 'numbers of telephones with the code of their country: +49 30 1234567',
  },
  'credit-card': {
    pattern: '\\b\\d(?:[ -]?\\d){12,18}\\b',
    ignoreCase: false,
    isReal: hasLuhn,
    meaning: 'numbers of cards, whose checksum holds',
  },
  iban: {
    pattern: '\\b[a-z]{2}\\d{2}(?: ?[a-z0-9]){11,30}\\b',
    ignoreCase: true,
    isReal: isIban,
    meaning: 'numbers of bank accounts, whose checksum holds',
  },
  'ip-address': {
    pattern: '\\b\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}\\b',
    ignoreCase: false,
    isReal: isIpv4,
    meaning: 'addresses of IPv4',
  },
  'us-ssn': {
    pattern: '\\b\\d{3}-\\d{2}-\\d{4}\\b',
    ignoreCase: false,
    isReal: isSsn,
    meaning: 'social security numbers of the United States',
  },
  jwt: {
    pattern: '\\beyJ[A-Za-z0-9_-]{8,}\\.[A-Za-z0-9_-]{8,}\\.[A-Za-z0-9_-]*',
    ignoreCase: false,
    isReal: always,
    meaning: 'JSON Web Tokens',
  },
  'private-key': {
    // One that was cut off is a key as well.
    pattern:
      '-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----(?:[A-Za-z0-9+/=\\s:,-]*?-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|[A-Za-z0-9+/=\\s]*)',
    ignoreCase: false,
    isReal: always,
    meaning: 'private keys in PEM',
  },
  'api-key': {
    pattern:
      '\\b(?:sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|xox[abprs]-[A-Za-z0-9-]{10,}|AKIA[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{35}|glpat-[A-Za-z0-9_-]{20,})',
    ignoreCase: false,
    isReal: always,
    meaning: 'keys of well-known services, by how they begin',
  },
} as const satisfies Record<string, DataKind>

export type DataKindName = keyof typeof DATA_KINDS
export const DATA_KIND_NAMES = Object.keys(DATA_KINDS) as [DataKindName, ...DataKindName[]] // the table is not empty

const compiled = new Map<DataKindName, LinearPattern>()

/** The pattern of a kind of data; compiled once. */
export function patternOfKind(name: DataKindName): LinearPattern {
  const known = compiled.get(name)
  if (known) return known
  const { pattern, ignoreCase } = DATA_KINDS[name]
  const made = compilePattern(pattern, { ignoreCase })
  if (made.kind === 'wrong') throw new Error(`the pattern of ${name} ${made.message}`)
  compiled.set(name, made.pattern)
  return made.pattern
}
