const numbersOf = (version: string): { major: number; minor: number } | null => {
  const [, major, minor] = /^(\d{1,6})\.(\d{1,6})(?:\.|$)/.exec(version) ?? []
  return major === undefined || minor === undefined ? null : { major: Number(major), minor: Number(minor) }
}

/** Whether a worker and a server of these versions may work together: one minor version apart at most. A version without numbers says nothing against it. */
export function mayExchange(worker: string, server: string): boolean {
  const a = numbersOf(worker)
  const b = numbersOf(server)
  return a === null || b === null || (a.major === b.major && Math.abs(a.minor - b.minor) <= 1)
}

/** How two versions of one installation stand: `patch` differs harmlessly, `minor` works together for the time of an upgrade, `incompatible` does not. */
export type Skew = 'same' | 'patch' | 'minor' | 'incompatible'

export function versionSkew(a: string, b: string): Skew {
  if (a === b) return 'same'
  const [one, other] = [numbersOf(a), numbersOf(b)]
  if (one === null || other === null) return 'patch'
  if (!mayExchange(a, b)) return 'incompatible'
  return one.minor === other.minor ? 'patch' : 'minor'
}

/** Which versions work together with this one: `0.3 to 0.5`. A version without numbers works with all. */
export function compatibleWith(version: string): string {
  const numbers = numbersOf(version)
  if (numbers === null) return 'all'
  const { major, minor } = numbers
  return minor === 0 ? `${major}.0 and ${major}.1` : `${major}.${minor - 1} to ${major}.${minor + 1}`
}
