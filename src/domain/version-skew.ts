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
