package steering

// FirstTable is the first of the owned routing tables; LastResortTable is the last.
const FirstTable = emptyTable

// IsOwned reports whether a routing table is owned, and so every route in it and rule that looks it up.
func IsOwned(table uint32) bool { return isOwned(table) }

// ComesBefore reports whether a foreign rule of this priority is where ours normally stand, or before, and ours go before it.
func ComesBefore(priority uint32) bool { return nearest < priority && priority <= afterPriority }

// StaysBefore reports whether a foreign rule of this priority comes before the rule of diverted packets whatever we do.
func StaysBefore(priority uint32) bool { return 0 < priority && priority <= nearest }

// nearest is the priority of the rule of diverted packets in the first of all places. A stranger's rule that has it may be older.
const nearest = foremost + divertPriority - ownPriority
